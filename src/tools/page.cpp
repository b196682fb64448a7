#include "page.hpp"

#include "svg.hpp"

namespace plait::tools {
namespace {

// The colours of lines are three times as bright or dark as what they lie on, in both schemes.
constexpr std::string_view style = R"text(
:root { color-scheme: light dark;
  --page: #f4f5f7; --card: #ffffff; --ink: #1b1f24; --soft: #57606a; --edge: #d5d9df; --grid: #e4e7eb;
  --run0: #0b62c4; --run1: #c2480a; --run2: #0c7a50; --run3: #8b35b5; --run4: #8a6500; --run5: #4a5666;
  --weights: #8fbbee; --optimizer: #c9aee6; --other: #c3c8d0; --gradients: #f5b48a; --activations: #93d3b4;
  --stash: #b7dfa0; --inputs: #ecd57c; --workspace: #b9c4d2; --hatch: rgb(0 0 0 / 0.16); --line: #ffffff; --on: #16191d; }
@media (prefers-color-scheme: dark) { :root {
  --page: #0f1216; --card: #181c22; --ink: #e6e9ee; --soft: #9aa4b1; --edge: #313843; --grid: #272d36;
  --run0: #6cb0ff; --run1: #ff9a5a; --run2: #4bcf9c; --run3: #d09aff; --run4: #e3bd45; --run5: #b4c0cf;
  --weights: #2d5f9e; --optimizer: #68488c; --other: #4d5663; --gradients: #a3541f; --activations: #21704f;
  --stash: #476b1f; --inputs: #7d6715; --workspace: #4c5b70; --hatch: rgb(255 255 255 / 0.15); --line: #181c22; --on: #f4f6f8; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1120px; padding: 24px 16px 48px; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 4px; }
h2 { font-size: 1.25rem; margin: 36px 0 12px; }
h3 { font-size: 1rem; margin: 0; display: inline; }
p { margin: 0 0 8px; }
code, pre { font-family: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: 0.85em; }
figcaption code, .lead, .small, .note, .origin { color: var(--soft); }
.small { font-size: 0.85rem; margin: 4px 0 0; } .run { margin: 14px 0 8px; font-weight: 600; }
.memory .small { margin: 0 0 8px; }
.card { background: var(--card); border: 1px solid var(--edge); border-radius: 10px; padding: 14px 16px; margin: 0; }
.grid { display: grid; gap: 16px; grid-template-columns: repeat(auto-fit, minmax(min(100%, 400px), 1fr)); }
.notes { padding: 10px 16px 10px 32px; }
.keys { display: flex; flex-wrap: wrap; gap: 2px 16px; font-size: 0.85rem; margin: 4px 0; color: var(--soft); }
.key { display: inline-flex; align-items: center; gap: 6px; overflow-wrap: anywhere; }
.key svg { flex: none; }
.plot { position: relative; touch-action: pan-y; }
svg { display: block; }
.plot svg, .wide svg { width: 100%; height: auto; font-size: 13px; font-family: inherit; }
.plot svg { overflow: visible; }
.defs { position: absolute; }
.grid path, .key path, .plot path, .wide path { fill: none; }
path.grid { stroke: var(--grid); } path.axis { stroke: var(--soft); }
.tick { fill: var(--soft); } .end { text-anchor: end; } .mid, .inside, .strip { text-anchor: middle; }
.line { stroke: var(--c); stroke-width: 2; stroke-linejoin: round; stroke-linecap: round; }
.line.thin { stroke-width: 1.6; }
.raw { stroke: var(--c); stroke-width: 1; stroke-opacity: 0.3; stroke-linejoin: round; }
.mark { fill: var(--card); stroke: var(--c); stroke-width: 1.8; }
.run0 { --c: var(--run0); } .run1 { --c: var(--run1); } .run2 { --c: var(--run2); }
.run3 { --c: var(--run3); } .run4 { --c: var(--run4); } .run5 { --c: var(--run5); }
.line.dash1 { stroke-dasharray: 8 5; } .line.dash2 { stroke-dasharray: 1 5; stroke-width: 2.6; }
.line.dash3 { stroke-dasharray: 10 4 1 4; } .line.dash4 { stroke-dasharray: 4 4; }
.cursor { stroke: var(--soft); stroke-dasharray: 3 3; }
.tip { position: absolute; top: 4px; pointer-events: none; background: var(--card); border: 1px solid var(--edge);
  border-radius: 6px; padding: 4px 8px; font-size: 0.8rem; white-space: nowrap; font-variant-numeric: tabular-nums;
  box-shadow: 0 2px 8px rgb(0 0 0 / 0.2); }
.wide, .scroll { overflow-x: auto; } .wide svg { min-width: 620px; }
.place { stroke: var(--line); stroke-width: 0.6; } .place.tiny, .place.flat { stroke: none; }
.wide .tiny.weights, .weights { fill: var(--weights); } .wide .tiny.activations, .activations { fill: var(--activations); }
.wide .tiny.other, .other { fill: var(--other); }
.optimizer { fill: url(#lines-optimizer); } .gradients { fill: url(#lines-gradients); }
.stash { fill: url(#lines-stash); } .fill-stash, .wide .tiny.stash { fill: var(--stash); }
.inputs { fill: url(#lines-inputs); } .workspace { fill: url(#lines-workspace); }
.fill-optimizer, .wide .tiny.optimizer { fill: var(--optimizer); } .fill-gradients, .wide .tiny.gradients { fill: var(--gradients); }
.fill-inputs, .wide .tiny.inputs { fill: var(--inputs); } .fill-workspace, .wide .tiny.workspace { fill: var(--workspace); }
.hatch { stroke: var(--hatch); stroke-width: 1.2; fill: none; }
.inside { fill: var(--on); font-size: 11px; pointer-events: none; }
.strip { fill: var(--ink); font-size: 12px; pointer-events: none; }
.phase { fill: var(--grid); stroke: var(--card); } .phase.backward { fill: var(--edge); }
.border, .peak { stroke: var(--ink); } .peak { stroke-dasharray: 5 4; }
.peakname { fill: var(--ink); paint-order: stroke; stroke: var(--card); stroke-width: 4px; stroke-linejoin: round; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 0.95rem; }
th, td { padding: 5px 14px 5px 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--grid); }
tr:last-child th, tr:last-child td { border-bottom: 0; }
th[scope=row] { font-weight: 500; color: var(--soft); white-space: nowrap; }
th[scope=col] { overflow-wrap: anywhere; min-width: 90px; }
.numbers td, .numbers th[scope=col], .kinds td:nth-child(2) { text-align: right; white-space: nowrap; }
.numbers th[scope=col] { white-space: normal; }
.settings td { overflow-wrap: anywhere; }
.kinds { margin-top: 10px; font-size: 0.9rem; } .kinds th, .kinds td { padding-top: 3px; padding-bottom: 3px; border: 0; }
.swatch { display: inline-block; width: 24px; margin-right: 8px; vertical-align: -2px; }
details { margin-top: 12px; } summary { cursor: pointer; font-weight: 500; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: 4px 0 12px; padding: 10px 12px; border-radius: 6px;
  background: var(--page); border: 1px solid var(--grid); max-height: 24em; overflow-y: auto; }
.prompt { font-weight: 700; }
@media print { body { max-width: none; background: none; } .card { break-inside: avoid; } }
@media (max-width: 480px) { body { padding: 16px 10px 32px; } .card { padding: 12px 10px; } }
)text";

// Only shows numbers under the pointer; the page is whole without it. It holds neither < nor an ampersand, so
// that the page stays XML.
constexpr std::string_view script = R"text(
for (const figure of document.querySelectorAll("figure.chart")) {
  const data = JSON.parse(figure.querySelector("script").textContent);
  const plot = figure.querySelector(".plot"), tip = figure.querySelector(".tip");
  const svg = plot.querySelector("svg"), cursor = svg.querySelector(".cursor");
  const names = [...figure.querySelectorAll(".key")].map(key => key.textContent);
  const curves = data.curves, room = data.right - data.left;
  const count = step => step.toLocaleString("en-US");
  const text = value => {
    const x = value / data.divisor, digits = data.digits;
    if (0 > digits) return String(Number(x.toPrecision(-digits)));
    return x.toLocaleString("en-US", {minimumFractionDigits: digits, maximumFractionDigits: digits});
  };
  const nearest = (steps, at) => {
    let low = 0, high = steps.length - 1;
    while (high > low) {
      const middle = (low + high) >> 1;
      if (steps[middle] >= at) high = middle; else low = middle + 1;
    }
    return low > 0 ? (at - steps[low - 1] > steps[low] - at ? low : low - 1) : low;
  };
  const hide = () => { tip.hidden = true; cursor.setAttribute("d", ""); };
  const show = event => {
    const box = svg.getBoundingClientRect(), scale = svg.viewBox.baseVal.width / box.width;
    const part = ((event.clientX - box.left) * scale - data.left) / room;
    if (0 > part || part > 1) return hide();
    const at = data.from + part * (data.to - data.from);
    const found = curves.map(curve => nearest(curve.steps, at));
    const gap = i => Math.abs(curves[i].steps[found[i]] - at);
    const best = found.map((_, i) => i).reduce((a, b) => gap(a) > gap(b) ? b : a);
    const step = curves[best].steps[found[best]];
    const lines = curves.map((curve, i) => {
      const own = curve.steps[found[i]];
      return (curves.length > 1 ? names[i] + ": " : "") + text(curve.values[found[i]]) +
        (data.unit ? " " + data.unit : "") + (own === step ? "" : " (step " + count(own) + ")");
    });
    tip.replaceChildren(...["step " + count(step), ...lines].map(line => {
      const div = document.createElement("div");
      div.textContent = line;
      return div;
    }));
    tip.hidden = false;
    const x = data.left + (step - data.from) / (data.to - data.from) * room;
    cursor.setAttribute("d", "M" + x + " " + data.top + "V" + data.bottom);
    const right = x / scale + 10, left = x / scale - tip.offsetWidth - 10;
    tip.style.left = Math.max(0, right + tip.offsetWidth > box.width ? left : right) + "px";
  };
  plot.addEventListener("pointermove", show);
  plot.addEventListener("pointerdown", show);
  plot.addEventListener("pointerleave", hide);
}
document.documentElement.dataset.ready = "yes";
)text";

}  // namespace

std::string page_html(std::string_view title, std::string_view body) {
    std::string page = "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n";
    page += "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n";
    // Without an icon of its own, a browser asks the server for one.
    page += "<link rel=\"icon\" href=\"data:,\"/>\n";
    page += "<title>" + escaped(title) + "</title>\n<style>";
    page += style;
    page += "</style>\n</head>\n<body>\n";
    page += body;
    page += "<script>";
    page += script;
    return page + "</script>\n</body>\n</html>\n";
}

}  // namespace plait::tools
