#include <cstdio>
#include <plait/plait.hpp>

using namespace plait;

int main() {
    models::Llama model({.dim = 64, .layers = 2, .heads = 4, .hidden = 128, .vocab = 64});
    optim::AdamW adam{.rate = optim::cosine(3e-3, 5, 60)};
    auto memory = state(model, adam);  // nothing is allocated before the first step

    auto plan = Plan().micro_batches(2).recompute("blocks.*");
    auto step = compile(plan, memory, token_columns(8, 32), [&](Batch const& b) -> Row {
        auto [loss, slopes] =
            value_and_gradients(model, [&] { return models::loss(model, b.tokens, b.targets); });
        Tensor norm = clip_norm(slopes, 1.0);
        adam.update(model, slopes);
        return {{"loss", loss}, {"grad_norm", norm}};
    });

    Array tokens({i32, {8, 32}}), targets({i32, {8, 32}});
    for (std::size_t i = 0; i < 8 * 32; ++i) {
        tokens.values<std::int32_t>()[i] = static_cast<int>(i % 64);
        targets.values<std::int32_t>()[i] = static_cast<int>((i + 1) % 64);
    }
    double loss = 0;
    for (int i = 1; i <= 60; ++i) {
        loss = step({{"tokens", tokens}, {"targets", targets}})[0].second.item();
        if (i % 10 == 0) std::printf("step %d  loss %.3f\n", i, loss);
    }
    return loss < 1 ? 0 : 1;
}
