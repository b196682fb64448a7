// A researcher's program against the library: own modules, own step, three steps of training.
#include <cmath>
#include <cstdio>
#include <plait/plait.hpp>

using namespace plait;

int second();

struct Mlp {
    nn::Linear gate, up, down;
    Mlp(std::int64_t dim, std::int64_t hidden) : gate(dim, hidden), up(dim, hidden), down(hidden, dim) {}
    Tensor operator()(Tensor const& x) const { return down(silu(gate(x)) * up(x)); }
    using fields = Fields<&Mlp::gate, &Mlp::up, &Mlp::down>;
};

struct Model {
    nn::Embedding tokens{32, 16};
    nn::RmsNorm norm{16};
    Mlp mlp{16, 32};
    Tensor operator()(Tensor const& ids) const {
        Tensor x = tokens(ids);
        return linear(x + mlp(norm(x)), tokens.weight);
    }
    using fields = Fields<&Model::tokens, &Model::norm, &Model::mlp>;
};

int main() {
    Model model;
    optim::AdamW adam{.rate = 0.05};
    auto memory = state(model, adam, cpu_backend(1));
    auto step = compile(Plan().micro_batches(2), memory, token_columns(4, 8), [&](Batch const& b) -> Row {
        auto [loss, slopes] =
            value_and_gradients(model, [&] { return cross_entropy(model(b.tokens), b.targets); });
        Tensor norm = clip_norm(slopes, 1.0);
        adam.update(model, slopes);
        return {{"loss", loss}, {"grad_norm", norm}};
    });
    Array tokens({i32, {4, 8}});
    for (int i = 0; i < 32; ++i) tokens.values<std::int32_t>()[static_cast<std::size_t>(i)] = i;
    double loss[3];
    for (double& l : loss) l = step({{"tokens", tokens}, {"targets", tokens}})[0].second.item();
    std::printf("outside: f32 has %d bytes, loss %.4f %.4f %.4f\n", second(), loss[0], loss[1], loss[2]);
    return second() == 4 && loss[2] < loss[1] && loss[1] < loss[0] && std::isfinite(loss[0]) ? 0 : 1;
}
