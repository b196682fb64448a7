#ifdef PLAIT_COMMAND

#include "command.hpp"
#include "markup.hpp"

namespace {

/// Two short runs, made once: of one rank, and of two with other numbers.
std::filesystem::path two_runs() {
    static ScratchFolder folder;
    if (!std::filesystem::exists(folder / "b")) {
        Arguments const more{"--run.steps=30", "--run.validate_every=10", "--data.seq=16", "--run.threads=1"};
        good(small_run(folder / "a", more));
        good(small_run(folder / "b", more + Arguments{"--run.cluster=threads:2", "--plan.micro_batches=4",
                                                      "--optimizer.rate=0.01"}));
        put_text(folder / "a/samples.jsonl",
                 "{\"step\": 10, \"prompt\": \"int <\", \"text\": \"</pre><script>alert(1)</script>\"}\n"
                 "{\"step\": 20, \"prompt\": \"int <\", \"text\": \"main() & more\"}\n");
    }
    return folder.path();
}

std::string report_of(Arguments const& runs, std::filesystem::path const& folder) {
    auto const out = folder / "out.html";
    auto f = good(Arguments{"report", "--out", out.string()} + runs, folder);
    CHECK_THAT(f.out, ContainsSubstring("report  " + out.string()));
    return get_text(out);
}

int times(std::string const& text, std::string const& what) {
    int n = 0;
    for (auto at = text.find(what); at != text.npos; at = text.find(what, at + 1)) ++n;
    return n;
}

/// A browser that draws without a screen.
std::string browser() {
    for (auto const* path : {"/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"})
        if (std::filesystem::exists(path)) return path;
    SKIP("no Chromium; tests/run --setup installs it");
    return "";
}

struct Rendered {
    std::string dom, console, picture;
};

/// Colour schemes as Chromium counts them.
enum class Scheme { dark, light };

Rendered render(std::string const& page, Scheme scheme) {
    auto const program = browser();
    ScratchFolder folder;
    put_text(folder / "page.html", page);
    auto run = [&](std::string const& what) {
        Process process({"--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                         "--user-data-dir=" + (folder / "profile").string(), "--virtual-time-budget=5000",
                         "--blink-settings=preferredColorScheme=" + std::to_string(static_cast<int>(scheme)),
                         "--enable-logging=stderr", "--window-size=900,1400", what,
                         "file://" + (folder / "page.html").string()},
                        folder.path(), program.c_str());
        auto f = process.wait();
        INFO(f.err);
        REQUIRE(f.code == 0);
        return f;
    };
    auto dom = run("--dump-dom");
    Rendered r{dom.out, "", ""};
    for (auto const& line : lines_of(dom.err))
        if (line.find("CONSOLE") != line.npos) r.console += line + "\n";
    run("--screenshot=" + (folder / "page.png").string());
    r.picture = get_text(folder / "page.png");
    return r;
}

}  // namespace

TEST_CASE("a report is one well-formed page with the curves, numbers, memory and samples") {
    auto const folder = two_runs();
    auto const page = report_of({"a"}, folder);
    CHECK(markup_fault(page) == "");
    for (auto const* text : {"<h1>Run a</h1>",
                             "30 of 30",
                             "Loss",
                             "Learning rate",
                             "Gradient norm",
                             "Throughput",
                             "Step time",
                             "bits per byte",
                             "Memory plan",
                             "weights: ",
                             "gradients: ",
                             "activations: ",
                             "inputs: ",
                             "workspace: ",
                             "optimizer: ",
                             "int &lt;",
                             "main() &amp; more",
                             "&lt;/pre&gt;&lt;script&gt;",
                             "<code>model.dim</code>",
                             "prefers-color-scheme: dark"})
        CHECK_THAT(page, ContainsSubstring(text));
    CHECK_THAT(page, !ContainsSubstring("wire_bytes"));
    CHECK_THAT(page, !ContainsSubstring("</pre><script>"));
    // Nothing is fetched: no address but the namespace-free data: icon.
    for (auto const* text : {"http://", "https://", "src=", "@import"})
        CHECK_THAT(page, !ContainsSubstring(text));
    CHECK(times(page, "<figure class=\"card chart\">") == 7);
    CHECK(times(page, "<figure class=\"card memory\">") == 1);
    // The numbers are those of the rows.
    auto const loss = column(folder / "a", "loss").back();
    CHECK_THAT(page, ContainsSubstring(fmt::format("<td>{:.3f}</td>", std::stod(loss))));
    CHECK(report_of({"a"}, folder) == page);

    good({"report", "a/"}, folder);
    CHECK(get_text(folder / "a/report.html") == page);
}

TEST_CASE("a report compares runs") {
    auto const folder = two_runs();
    auto const page = report_of({"a", "b"}, folder);
    CHECK(markup_fault(page) == "");
    for (auto const* text : {"<h1>Runs a, b</h1>", "b, training", "a, validation", "wire_bytes",
                             "Sent, a step", "What the runs have differently", "loop 2: 2 times"})
        CHECK_THAT(page, ContainsSubstring(text));
    CHECK(times(page, "<figure class=\"card chart\">") == 8);
    CHECK(times(page, "<figure class=\"card memory\">") == 2);
    auto const differences = page.substr(page.find("What the runs have differently"));
    auto const until = differences.substr(0, differences.find("<details"));
    for (auto const* key : {"optimizer.rate", "run.cluster", "plan.micro_batches", "run.out"})
        CHECK_THAT(until, ContainsSubstring(std::string(key) + "</code>"));
    CHECK_THAT(until, !ContainsSubstring("model.dim"));
}

TEST_CASE("a report of a pipeline draws its schedule and the memory of the rank that has most") {
    ScratchFolder folder;
    for (auto const* run : {"a", "b"})
        good(small_run(folder / run, {"--run.steps=2", "--cluster", "threads:2", "--mesh", "pipeline=2",
                                      "--plan.micro_batches=4", "--plan.schedule=zb-h1"}));
    auto const page = report_of({"a"}, folder.path());
    CHECK(markup_fault(page) == "");
    for (auto const* text : {"<h2>Schedule</h2>", "zb-h1: 2 stages on 2 ranks, 4 micro-batches",
                             "<title>1W3: ", "which has the most", "stash: ", "stage 1 B: 4 times"})
        CHECK_THAT(page, ContainsSubstring(text));
    CHECK(times(page, "<figure class=\"card schedule\">") == 1);
    CHECK(times(page, "<figure class=\"card memory\">") == 1);
    auto const both = report_of({"a", "b"}, folder.path());
    CHECK(markup_fault(both) == "");
    CHECK(times(both, "<figure class=\"card schedule\">") == 1);
    CHECK(times(both, "As that of a.") == 2);
    CHECK(times(both, "<pattern id=\"lines-input\"") == 1);
}

TEST_CASE("a report of a run that is cut off, or has no configuration, says so") {
    ScratchFolder folder;
    put_text(folder / "r/metrics.jsonl",
             "{\"step\": 1, \"loss\": 5, \"mfu\": null}\n{\"step\": 2, \"loss\": null}\n{\"st");
    auto f = good({"report", "r"}, folder.path());
    CHECK_THAT(f.out, ContainsSubstring("note    r/metrics.jsonl:3: the last line is cut"));
    CHECK_THAT(f.out, ContainsSubstring("note    there is no r/config.toml"));
    auto page = get_text(folder / "r/report.html");
    CHECK(markup_fault(page) == "");
    CHECK_THAT(page, ContainsSubstring("the last line is cut"));
    put_text(folder / "r/config.toml", "[model]\nwidth = 3\n");
    CHECK_THAT(good({"report", "r"}, folder.path()).out,
               ContainsSubstring("note    no configuration and no memory plan"));
}

TEST_CASE("what cannot be reported is refused") {
    ScratchFolder folder;
    put_text(folder / "empty/note.txt", "");
    put_text(folder / "none/metrics.jsonl", "");
    put_text(folder / "bad/metrics.jsonl", "{\"step\": 1, \"loss\": 5}\nxyz\n{\"step\": 2}\n");
    put_text(folder / "good/metrics.jsonl", "{\"step\": 1, \"loss\": 5}\n");
    auto no = [&](std::string const& message, Arguments const& arguments) {
        refused(2, message, Arguments{"report"} + arguments, folder.path());
    };
    no("there is no folder nowhere", {"nowhere"});
    no("empty holds no run: there is no empty/metrics.jsonl", {"empty"});
    no("none/metrics.jsonl has no rows yet", {"none"});
    no("bad/metrics.jsonl:2: is no row of a run", {"good", "bad"});
    no("good is named twice", {"good", "good/"});
    no("nowhere/x.html", {"good", "--out", "nowhere/x.html"});
    no("RUN is required", {});
    no("the nearest is --out", {"good", "--ouy=x"});
    CHECK_FALSE(std::filesystem::exists(folder / "good/report.html"));
}

TEST_CASE("markup that is broken is noticed") {
    std::string const page = "<!DOCTYPE html>\n<p class=\"a\">b &amp; c<br/></p>";
    CHECK(markup_fault(page) == "");
    for (std::string bad : {"<p>", "</p>", "<p>a & b</p>", "<p>a < b</p>", "<b><i></b></i>", "<p a=b></p>",
                            "<p a></p>", "<p a=\"1\" a=\"2\"></p>", "<p a=\"1></p>", "text", "<br>"})
        CHECK(markup_fault("<!DOCTYPE html>\n" + bad) != "");
}

TEST_CASE("a browser shows the report without an error, in light and dark") {
    browser();
    auto page = report_of({"a", "b"}, two_runs());
    // Points at every chart, as a reader would.
    auto const point = std::string(
        "<script>for (const plot of document.querySelectorAll('.plot')) {"
        "  const box = plot.getBoundingClientRect();"
        "  plot.dispatchEvent(new PointerEvent('pointermove', {clientX: box.left + box.width / 2, clientY: "
        "box.top + 9}));"
        "}</script>");
    page.insert(page.rfind("</body>"), point);
    auto const light = render(page, Scheme::light), dark = render(page, Scheme::dark);
    for (auto const* r : {&light, &dark}) {
        CHECK(r->console == "");
        CHECK_THAT(r->dom, ContainsSubstring("data-ready=\"yes\""));
        CHECK(times(r->dom, "<div>step 1") == 8);
        CHECK(r->picture.size() > 20'000);
    }
    CHECK(light.picture != dark.picture);

    auto broken = page;
    broken.replace(broken.find("data.divisor"), 4, "nada");
    CHECK_THAT(render(broken, Scheme::light).console, ContainsSubstring("nada is not defined"));
}

#endif
