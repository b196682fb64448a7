#pragma once

#include "catch.hpp"
#include "plait/io/safetensors.hpp"
#include "plait/plait.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <memory>
#include <string>
#include <vector>

/// The files that tests/golden/make.py makes with PyTorch.
namespace tests {

using namespace plait;

/// A file of tests/golden.
struct Golden {
    SafetensorsFile file;
    models::Config config;

    explicit Golden(std::string const& name)
        : file(std::string(TESTS_DIR) + "/golden/" + name + ".safetensors") {
        auto& c = config;
        c.tied = file.metadata().at("tied") == "true";
        c.norm_eps = number("norm_eps"), c.rope_base = number("rope_base");
        std::pair<char const*, std::int64_t*> const sizes[] = {
            {"dim", &c.dim},       {"layers", &c.layers}, {"heads", &c.heads}, {"kv_heads", &c.kv_heads},
            {"hidden", &c.hidden}, {"vocab", &c.vocab},   {"seq", &c.seq}};
        for (auto const& [key, to] : sizes) *to = static_cast<std::int64_t>(number(key));
    }

    double number(std::string const& key) const { return std::stod(file.metadata().at(key)); }

    /// A tensor; of those with a row for each step, the row of `step`.
    Array array(std::string const& name, std::int64_t step = -1) const {
        auto const& entry = file.at(name);
        auto shape = step < 0 ? entry.meta.shape : entry.meta.shape.dims(1, entry.meta.shape.rank());
        Array a(Meta{entry.meta.dtype, shape});
        auto bytes = a.bytes();
        auto from =
            entry.bytes.subspan(static_cast<std::size_t>(std::max<std::int64_t>(step, 0)) * bytes.size());
        std::copy_n(from.begin(), bytes.size(), bytes.begin());
        return a;
    }
};

template <class Module>
void set_weights(Module& module, Golden const& golden) {
    for (auto const& v : variables_of(module)) v->value = golden.array("weight." + v->path);
}

inline std::map<std::string, Array> batch_of(Golden const& golden, std::int64_t step) {
    return {{"tokens", golden.array("tokens", step)}, {"targets", golden.array("targets", step)}};
}

inline optim::AdamW adam_of(Golden const& golden) {
    auto steps = static_cast<std::int64_t>(golden.number("steps"));
    auto warmup = static_cast<std::int64_t>(golden.number("warmup"));
    return {.rate = optim::cosine(golden.number("rate"), warmup, steps),
            .beta1 = golden.number("beta1"),
            .beta2 = golden.number("beta2"),
            .eps = golden.number("eps"),
            .weight_decay = golden.number("decay")};
}

/// The losses of the first steps from a file's weights and on its batches, as make.py trains.
template <class Model>
std::vector<double> curve_of(Golden const& golden, Plan const& plan, optim::AdamW adam,
                             std::shared_ptr<Backend> backend, std::int64_t steps) {
    Model model(golden.config);
    set_weights(model, golden);
    auto const shape = golden.array("tokens", 0).shape();
    auto step = compile(plan, state(model, adam, std::move(backend)), token_columns(shape[0], shape[1]),
                        [&](Batch const& b) -> Row {
                            auto [loss, gradients] = value_and_gradients(
                                model, [&] { return models::loss(model, b.tokens, b.targets); });
                            clip_norm(gradients, golden.number("clip"));
                            adam.update(model, gradients);
                            return {{"loss", loss}};
                        });
    std::vector<double> losses;
    for (std::int64_t i = 0; i < steps; ++i)
        losses.push_back(step(batch_of(golden, i)).front().second.item());
    return losses;
}

/// The largest relative distance of these losses from the file's, each the mean of itself and its `around`
/// neighbours on either side.
inline double distance_from(Golden const& golden, std::vector<double> const& losses, int around = 0) {
    auto const theirs = golden.array("losses");
    auto const n = static_cast<int>(losses.size());
    double worst = 0;
    for (int i = around; i + around < n; ++i) {
        double ours = 0, want = 0;
        for (int k = i - around; k <= i + around; ++k)
            ours += losses[static_cast<std::size_t>(k)], want += theirs.at(k);
        if (!std::isfinite(ours)) return std::numeric_limits<double>::infinity();
        worst = std::max(worst, std::abs(ours - want) / want);
    }
    return worst;
}

}  // namespace tests
