// Losses, gradients and updates against PyTorch; tests/golden/make.py makes the files.
#ifdef PLAIT_HAS_JSON

#include "golden.hpp"

#include <cmath>

using namespace tests;

namespace {

/// On ||ours - theirs|| / ||theirs|| of each tensor.
struct Bounds {
    double loss, gradient, weight;
};
constexpr Bounds f32_bounds{1e-5, 1e-5, 1e-4};
// A number in bf16 is off by up to 2^-9 = 0.2 %, and a gradient has been rounded dozens of times.
constexpr Bounds bf16_bounds{5e-3, 5e-2, 2e-2};

double distance(Array const& ours, Array const& theirs) {
    REQUIRE(ours.shape() == theirs.shape());
    double difference = 0, norm = 0;
    for (std::int64_t i = 0; i < theirs.meta().elements(); ++i) {
        difference += std::pow(ours.at(i) - theirs.at(i), 2);
        norm += std::pow(theirs.at(i), 2);
    }
    return std::sqrt(difference / norm);
}

/// The tensors that are not within `bound` of the file's, a line each.
std::string far_from(Golden const& golden, Values const& ours, double bound) {
    std::string far;
    for (auto const& [name, array] : ours) {
        // A constant added to all keys changes no softmax: this gradient is zero but for rounding.
        if (name.ends_with("attention.k.bias")) continue;
        auto d = distance(array, golden.array(name));
        if (!(d <= bound)) far += fmt::format("{} {:.2e}\n", name, d);
    }
    return far;
}

/// far_from of the same tensors, each scaled by 1.001, which moves it by 1e-3 of its norm.
std::string far_from_when_scaled(Golden const& golden, Values values, double bound) {
    for (auto& [name, array] : values) {
        array = Array(array.shape(), std::span<float const>(array.values<float>()));
        for (auto& x : array.values<float>()) x *= 1.001f;
    }
    return far_from(golden, values, bound);
}

struct Variant {
    std::string name;
    Plan plan;
    std::int64_t loss_chunk = 1024;
    Bounds bounds = f32_bounds;
};

/// `modules` are those that recompute.
std::vector<Variant> variants(std::string const& modules = "blocks.*") {
    return {
        {"plain", Plan()},
        {"all logits", Plan(), 0},
        {"chunks of 7", Plan(), 7},
        {"2 micro-batches", Plan().micro_batches(2)},
        {"4 micro-batches, all logits", Plan().micro_batches(4), 0},
        {"recompute", Plan().recompute(modules)},
        {"recompute, 4 micro-batches, chunks of 16", Plan().recompute("**").micro_batches(4), 16},
        {"bf16", Plan().compute(bf16), 1024, bf16_bounds},
        {"bf16, recompute, 2 micro-batches, chunks of 16",
         Plan().compute(bf16).recompute(modules).micro_batches(2), 16, bf16_bounds},
    };
}

template <class Model>
Model make_model(Golden const& golden, Variant const& variant) {
    auto config = golden.config;
    config.loss_chunk = variant.loss_chunk;
    Model model(config);
    set_weights(model, golden);
    return model;
}

/// The loss, and then the gradient of each parameter as "gradient.PATH".
template <class Model>
Values gradients_of(Golden const& golden, Variant const& variant) {
    auto model = make_model<Model>(golden, variant);
    auto batch = batch_of(golden, 0);
    auto shape = batch.at("tokens").shape();
    auto step = compile(variant.plan, state(model), token_columns(shape[0], shape[1]), [&](Batch const& b) {
        auto [loss, gradients] =
            value_and_gradients(model, [&] { return models::loss(model, b.tokens, b.targets); });
        Row row{{"loss", loss}};
        for (auto const& [v, g] : gradients.entries) row.emplace_back("gradient." + v->path, g);
        return row;
    });
    return step(batch);
}

struct Trained {
    std::vector<double> losses, norms;
    Values weights;  // afterwards, as "after.PATH"
};

/// Trains as make.py does.
template <class Model>
Trained train(Golden const& golden, Variant const& variant, optim::AdamW adam) {
    auto model = make_model<Model>(golden, variant);
    auto shape = golden.array("tokens", 0).shape();
    auto all = state(model, adam);
    auto step = compile(variant.plan, all, token_columns(shape[0], shape[1]), [&](Batch const& b) -> Row {
        auto [loss, gradients] =
            value_and_gradients(model, [&] { return models::loss(model, b.tokens, b.targets); });
        auto norm = clip_norm(gradients, golden.number("clip"));
        adam.update(model, gradients);
        return {{"loss", loss}, {"grad_norm", norm}};
    });
    Trained out;
    for (int i = 0; i < static_cast<int>(golden.number("steps")); ++i) {
        auto row = step(batch_of(golden, i));
        out.losses.push_back(row[0].second.item());
        out.norms.push_back(row[1].second.item());
    }
    for (auto const& v : variables_of(model)) out.weights.emplace_back("after." + v->path, all->read(*v));
    return out;
}

template <class Model>
void check_gradients(std::string const& file) {
    Golden golden(file);
    for (auto const& variant : variants()) {
        INFO(file << ", " << variant.name);
        auto values = gradients_of<Model>(golden, variant);
        auto loss = values.front().second.item();
        values.erase(values.begin());
        CHECK(loss == Approx(golden.array("losses").at(0)).epsilon(variant.bounds.loss));
        CHECK(values.size() == variables_of(*std::make_unique<Model>(golden.config)).size());
        CHECK(far_from(golden, values, variant.bounds.gradient) == "");
        if (variant.name != "plain") continue;
        auto far = far_from_when_scaled(golden, values, variant.bounds.gradient);
        for (auto const& [name, array] : values)
            if (!name.ends_with("attention.k.bias")) CHECK_THAT(far, ContainsSubstring(name + " "));
    }
}

template <class Model>
void check_training(std::string const& file) {
    Golden golden(file);
    for (auto const& variant : variants()) {
        INFO(file << ", " << variant.name);
        auto [losses, norms, weights] = train<Model>(golden, variant, adam_of(golden));
        for (std::size_t i = 0; i < losses.size(); ++i) {
            auto at = static_cast<std::int64_t>(i);
            CHECK(losses[i] == Approx(golden.array("losses").at(at)).epsilon(variant.bounds.loss));
            CHECK(norms[i] == Approx(golden.array("norms").at(at)).epsilon(variant.bounds.gradient));
        }
        CHECK(far_from(golden, weights, variant.bounds.weight) == "");
        if (variant.name != "plain") continue;
        CHECK_THAT(far_from_when_scaled(golden, weights, variant.bounds.weight),
                   ContainsSubstring("after.tokens.weight "));
        auto adam = adam_of(golden);
        adam.weight_decay = 0;
        CHECK(far_from(golden, train<Model>(golden, variant, adam).weights, variant.bounds.weight) != "");
    }
}

/// `run(block, x)` gives the block's output.
template <class Block, class Run>
void check_block(std::string const& file, Run const& run) {
    Golden golden(file);
    for (auto const& variant : variants("{attention,mlp}")) {
        INFO(file << ", " << variant.name);
        Block block(golden.config);
        set_weights(block, golden);
        auto x = golden.array("x"), dy = golden.array("dy");
        auto step =
            compile(variant.plan, state(block), {{"x", x.meta()}, {"dy", dy.meta()}}, [&](Batch const& b) {
                auto y = run(block, b["x"]);
                auto loss = sum(y * b["dy"]);
                Tensors to{b["x"]};
                std::vector<std::string> names{"x"};
                for (auto const& v : variables_of(block)) to.push_back(read(*v)), names.push_back(v->path);
                auto g = gradients(loss, to);
                Row row{{"losses", reshape(loss, {1})}, {"y", y}};
                for (std::size_t i = 0; i < g.size(); ++i) row.emplace_back("gradient." + names[i], g[i]);
                return row;
            });
        auto values = step({{"x", x}, {"dy", dy}});
        CHECK(far_from(golden, values, variant.bounds.gradient) == "");
        if (variant.name == "plain")
            CHECK_THAT(far_from_when_scaled(golden, values, variant.bounds.gradient),
                       ContainsSubstring("gradient.x ") && ContainsSubstring("gradient.mlp.down.weight "));
    }
}

}  // namespace

TEST_CASE("a GPT-2 block gives PyTorch's numbers") {
    check_block<models::Gpt2Block>("gpt2_block", [](auto const& block, Tensor const& x) { return block(x); });
}

TEST_CASE("a Llama block gives PyTorch's numbers") {
    check_block<models::LlamaBlock>("llama_block", [](models::LlamaBlock const& block, Tensor const& x) {
        return block(x, rope_table(x.size(1), block.attention.head_dim));
    });
}

TEST_CASE("a tied GPT-2 has PyTorch's loss and gradients") { check_gradients<models::Gpt2>("gpt2_tied"); }
TEST_CASE("an untied GPT-2 has PyTorch's loss and gradients") {
    check_gradients<models::Gpt2>("gpt2_untied");
}
TEST_CASE("a tied Llama has PyTorch's loss and gradients") { check_gradients<models::Llama>("llama_tied"); }
TEST_CASE("an untied Llama has PyTorch's loss and gradients") {
    check_gradients<models::Llama>("llama_untied");
}

TEST_CASE("a tied GPT-2 trains as with PyTorch's AdamW") { check_training<models::Gpt2>("gpt2_tied"); }
TEST_CASE("an untied GPT-2 trains as with PyTorch's AdamW") { check_training<models::Gpt2>("gpt2_untied"); }
TEST_CASE("a tied Llama trains as with PyTorch's AdamW") { check_training<models::Llama>("llama_tied"); }
TEST_CASE("an untied Llama trains as with PyTorch's AdamW") { check_training<models::Llama>("llama_untied"); }

TEST_CASE("200 steps follow PyTorch's") {
    auto check = [](auto* model, std::string const& file) {
        using Model = std::remove_pointer_t<decltype(model)>;
        Golden golden(file);
        auto const steps = static_cast<std::int64_t>(golden.number("steps"));
        INFO(file);
        CHECK(steps == 200);
        auto curve = [&](Plan const& plan, optim::AdamW const& adam) {
            return curve_of<Model>(golden, plan, adam, cpu_backend(1), steps);
        };
        auto adam = adam_of(golden);
        CHECK(distance_from(golden, curve(Plan(), adam)) < 1e-4);
        CHECK(distance_from(golden, curve(Plan().compute(bf16), adam), 5) < 2e-2);
        adam.weight_decay = 0;
        CHECK(distance_from(golden, curve(Plan(), adam)) > 1e-3);
    };
    check(static_cast<models::Gpt2*>(nullptr), "gpt2_curve");
    check(static_cast<models::Llama*>(nullptr), "llama_curve");
}

#endif
