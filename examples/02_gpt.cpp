// A language model from its parts: a module is a struct that lists its fields, a step is an ordinary function
// that compile() records once. Trains on text for some seconds, validates, and writes a line of its own.
//
// Run: build/release/bin/examples/02_gpt [FILE OR FOLDER OF TEXT]
#include <cmath>
#include <cstdio>
#include <filesystem>

#include "plait/core/random.hpp"
#include "plait/data/loader.hpp"
#include "plait/data/text.hpp"
#include "plait/plait.hpp"

using namespace plait;

struct Mlp {
    nn::Linear gate, up, down;
    Mlp(std::int64_t dim, std::int64_t hidden) : gate(dim, hidden), up(dim, hidden), down(hidden, dim) {}
    Tensor operator()(Tensor const& x) const {
        Tensor g = gate(x), u = up(x);
        return down(swiglu(g, u));
    }
    using fields = Fields<&Mlp::gate, &Mlp::up, &Mlp::down>;
};

struct Layer {
    nn::RmsNorm attention_norm, mlp_norm;
    nn::SelfAttention attention;
    Mlp mlp;
    explicit Layer(std::int64_t dim)
        : attention_norm(dim), mlp_norm(dim), attention(dim, 4, 2), mlp(dim, 2 * dim) {}
    Tensor operator()(Tensor const& x, Tensor const& rotation) const {
        Tensor y = x + attention(attention_norm(x), rotation);
        return y + mlp(mlp_norm(y));
    }
    using fields = Fields<&Layer::attention_norm, &Layer::attention, &Layer::mlp_norm, &Layer::mlp>;
};

/// Bytes in, logits of the next byte out: i32[batch, seq] -> [batch, seq, 256].
struct Gpt {
    nn::Embedding tokens;
    nn::Stack<Layer> blocks;
    nn::RmsNorm norm;
    Gpt(std::int64_t dim, int layers) : tokens(256, dim), norm(dim) {
        for (int i = 0; i < layers; ++i) blocks.blocks.emplace_back(dim);
    }
    Tensor operator()(Tensor const& ids) const {
        Tensor x = tokens(ids);
        return linear(norm(blocks(x, rope_table(ids.size(1), x.size(-1) / 4))), tokens.weight);
    }
    using fields = Fields<&Gpt::tokens, &Gpt::blocks, &Gpt::norm>;
};

int main(int argc, char** argv) {
    // Without an argument it reads the text beside this file.
    auto here = std::filesystem::path(__FILE__).parent_path() / "text";
    Text text = read_text(std::vector<std::string>{argc > 1 ? argv[1] : here.string()});
    Split split = split_text(static_cast<std::int64_t>(text.bytes.size()), 0.1);
    std::int64_t const batch = 8, seq = 64, steps = 400;
    Loader train(text.bytes, split.train, batch, seq, 1);
    Loader held_out(text.bytes, split.validation, batch, seq, 1, Order::fixed, "validation");
    auto load = [&](Loader const& from, std::int64_t step) {
        Array tokens({i32, {batch, seq}}), targets(tokens.meta());
        from.fill(step, 0, batch, tokens.values<std::int32_t>().data(),
                  targets.values<std::int32_t>().data());
        return std::map<std::string, Array>{{"tokens", tokens}, {"targets", targets}};
    };

    Gpt gpt(64, 2);  // parameters have shapes and paths, no memory yet
    optim::AdamW adam{.rate = optim::cosine(4e-3, 10, steps, 4e-4), .weight_decay = 0.1};
    auto memory = state(gpt, adam);  // ... nor here; the programs below share it
    auto columns = token_columns(batch, seq);
    auto loss_of = [&](Batch const& b) { return cross_entropy(gpt(b.tokens), b.targets); };
    auto step = compile(Plan().micro_batches(2), memory, columns, [&](Batch const& b) -> Row {
        auto [loss, slopes] = value_and_gradients(gpt, [&] { return loss_of(b); });
        Tensor norm = clip_norm(slopes, 1.0);
        adam.update(gpt, slopes);
        return {{"loss", loss}, {"grad_norm", norm}};
    });
    auto validate = compile(Plan(), memory, columns, [&](Batch const& b) -> Row {
        return {{"loss", loss_of(b)}};
    });
    auto predict = compile(Plan(), memory, {{"tokens", {i32, {1, seq}}}}, [&](Batch const& b) -> Row {
        return {{"logits", slice(gpt(b.tokens), 1, seq - 1, 1)}};
    });
    std::printf("%zu bytes of text, %lld bytes planned for a step\n", text.bytes.size(),
                static_cast<long long>(step.memory().total()));

    auto validation_loss = [&] { return validate(load(held_out, 0))[0].second.item(); };
    double before = validation_loss();
    for (std::int64_t i = 0; i < steps; ++i) {
        auto row = step(load(train, i));
        if (i % 50 == 0 || i + 1 == steps)
            std::printf("step %3lld  loss %.3f  grad %.2f\n", static_cast<long long>(i + 1),
                        row[0].second.item(), row[1].second.item());
    }
    double after = validation_loss();
    std::printf("validation loss %.3f -> %.3f\n", before, after);

    // It goes on from line breaks, a byte at a time: the largest of logit + Gumbel noise is a sample of the
    // softmax.
    Array context({i32, {1, seq}});
    auto ids = context.values<std::int32_t>();
    std::fill(ids.begin(), ids.end(), '\n');
    Random random{7};
    for (std::uint64_t n = 0; n < 160; ++n) {
        Array logits = predict({{"tokens", context}})[0].second;
        std::pair<double, int> best{-INFINITY, 0};
        for (int c = 0; c < 256; ++c) {
            double u = random.uniform(n * 256 + static_cast<std::uint64_t>(c)) + 0x1p-25;
            best = std::max(best, {logits.at(c) / 0.8 - std::log(-std::log(u)), c});
        }
        std::copy(ids.begin() + 1, ids.end(), ids.begin());
        ids.back() = best.second;
        std::putchar(best.second);
    }
    std::puts("");
    return after < 0.5 * before ? 0 : 1;
}
