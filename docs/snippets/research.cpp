// What docs/researchers-api.md quotes, as one program.
#include <plait/comm/threads.hpp>
#include <plait/plait.hpp>
#include <plait/train/saving.hpp>
#include <plait/train/shared_state.hpp>

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <filesystem>

using namespace plait;

struct Block {
    nn::Linear up, down;
    nn::Parameter gain;  // a tensor of its own

    explicit Block(std::int64_t dim) : up(dim, 4 * dim), down(4 * dim, dim), gain({dim}, Init::ones()) {}
    Tensor operator()(Tensor const& x) const { return x + gain * down(gelu(up(x))); }

    using fields = Fields<&Block::up, &Block::down, &Block::gain>;
};

/// Bytes in, logits of the next byte out: i32[batch, seq] -> [batch, seq, 256].
struct Model {
    nn::Embedding tokens{256, 32};
    nn::Stack<Block> blocks;

    Model() : blocks{{Block(32), Block(32)}, ""} {}
    Tensor operator()(Tensor const& ids) const { return linear(blocks(tokens(ids)), tokens.weight); }

    using fields = Fields<&Model::tokens, &Model::blocks>;
};

/// Gradient descent with momentum, and a rate that warms up.
struct Momentum {
    double rate = 0.5, keep = 0.9;
    std::map<std::shared_ptr<Variable>, std::shared_ptr<Variable>> speeds{};

    std::vector<std::shared_ptr<Variable>> prepare(std::vector<std::shared_ptr<Variable>> const& parameters) {
        std::vector<std::shared_ptr<Variable>> all;
        for (auto const& p : parameters) {
            auto& v = speeds[p];
            if (!v) v = make_variable(p->meta, Init::zeros(), VariableKind::optimizer, "speed." + p->path);
            all.push_back(v);
        }
        return all;
    }

    void update(Gradients const& gradients) {
        OriginScope origin({"optimizer", Phase::update, false});
        Tensor now = feed_input("rate", {f32, {}}, [most = rate](StepInfo const& at, std::byte* to) {
            auto x = static_cast<float>(most * std::min(1.0, static_cast<double>(at.step) / 10));
            std::memcpy(to, &x, sizeof x);
        });
        for (auto const& [p, gradient] : gradients.entries) {
            auto& speed = *speeds.at(p);
            assign(speed, keep * read(speed) + gradient);
            assign(*p, read(*p) - now * read(speed));
        }
    }
};

/// Numbers that count from 0 to 99 again and again, and what follows each: rows [first, last) of the batch.
std::map<std::string, Array> counting(std::int64_t first, std::int64_t last, std::int64_t seq) {
    Array tokens({i32, {last - first, seq}}), targets(tokens.meta());
    for (std::int64_t i = 0; i < tokens.meta().elements(); ++i) {
        auto const at = static_cast<std::size_t>(i);
        tokens.values<std::int32_t>()[at] = static_cast<int>((first * seq + i) % 100);
        targets.values<std::int32_t>()[at] = static_cast<int>((first * seq + i + 1) % 100);
    }
    return {{"tokens", tokens}, {"targets", targets}};
}

/// Trains on the ranks of a mesh and gives the hash of all weights, the same on each.
std::uint64_t train(Mesh const& mesh, std::string const& line) {
    Model model;
    Momentum momentum;
    auto memory = state(model, momentum, cpu_backend(1));
    auto plan = Plan(mesh).bits(Bits::layout).line(line);
    auto step = compile(plan, memory, token_columns(8, 16), [&](Batch const& b) -> Row {
        auto [loss, slopes] =
            value_and_gradients(model, [&] { return cross_entropy(model(b.tokens), b.targets); });
        momentum.update(slopes);
        return {{"loss", loss}};
    });
    auto const [first, last] = mesh.samples(8);
    for (int i = 0; i < 5; ++i) step(counting(first, last, 16));
    return mesh.world() ? SharedState(*mesh.world(), memory).parameter_hash() : memory->parameter_hash();
}

int check_gradients() {
    Tensor x = full({}, 2.0, f64);
    Tensor y = x * x * x;
    Tensor slope = gradients(y, {x})[0];
    Tensor bend = gradients(slope, {x})[0];  // a gradient is recorded like anything else
    std::printf("%g %g %g\n", evaluate(y).item(), evaluate(slope).item(), evaluate(bend).item());

    return evaluate(y).item() == 8 && evaluate(slope).item() == 12 && evaluate(bend).item() == 12 ? 0 : 1;
}

int check_loop() {
    Model model;
    Momentum momentum;
    auto memory = state(model, momentum);  // shapes and paths; no memory yet

    auto plan = Plan().micro_batches(2).recompute("blocks.*").watch("blocks.*.out");
    auto step = compile(plan, memory, token_columns(8, 16), [&](Batch const& b) -> Row {
        auto [loss, slopes] =
            value_and_gradients(model, [&] { return cross_entropy(model(b.tokens), b.targets); });
        Tensor norm = clip_norm(slopes, 1.0);
        momentum.update(slopes);
        return {{"loss", loss}, {"grad_norm", norm}};
    });
    auto validate = compile(Plan(), memory, token_columns(8, 16), [&](Batch const& b) -> Row {
        nn::Inference inference;
        return {{"loss", cross_entropy(model(b.tokens), b.targets)}};
    });
    std::printf("%lld bytes are planned\n", static_cast<long long>(step.memory().total()));

    double const before = validate(counting(8, 16, 16))[0].second.item();
    for (int i = 0; i < 200; ++i) {
        Values row = step(counting(0, 8, 16));
        if (i % 50 == 0)
            for (auto const& [name, value] : row)
                if (value.shape().empty()) std::printf("%s %.3f  ", name.c_str(), value.item());
    }
    double const after = validate(counting(8, 16, 16))[0].second.item();
    std::printf("\nvalidation loss %.3f -> %.3f\n", before, after);

#ifdef PLAIT_HAS_JSON
    auto const folder =
        std::filesystem::temp_directory_path() / ("plait-research-" + std::to_string(::getpid()));

    Manifest now;
    now.step = step.steps_done();
    save_checkpoint(folder, now, parameter_arrays(*memory), non_parameter_arrays(*memory));
    auto const saved = memory->parameter_hash();
    step(counting(0, 8, 16));

    auto found = find_checkpoint(folder).checkpoint;  // the newest that is whole
    found->copy_weights_to(parameter_arrays(*memory));
    found->copy_optimizer_to(non_parameter_arrays(*memory));
    step.set_steps_done(found->manifest.step);

    std::filesystem::remove_all(folder);
    if (memory->parameter_hash() != saved) return 1;
#endif
    return after < before ? 0 : 1;
}

int check_ranks() {
    std::uint64_t const alone = train(Mesh(), "zero 0");
    int other = 0;
    run_ranks(2, [&](Communicator& world) {
        auto const hash = train(Mesh(world, {{"data", 2}}), "zero 3");
        if (world.rank() == 0 && hash != alone) other = 1;
    });

    return other;
}

int check_generation() {
    models::Llama llama({.dim = 32, .layers = 2, .heads = 2, .hidden = 64, .vocab = 256, .seq = 32});
    optim::AdamW adam{.rate = 1e-2};
    auto memory = state(llama, adam);
    Decoder decoder(llama, memory,
                    {.slots = 1, .length = 64});  // before the first step: its cache lies there too
    auto step = compile(Plan(), memory, token_columns(8, 16), [&](Batch const& b) -> Row {
        auto [loss, slopes] =
            value_and_gradients(llama, [&] { return models::loss(llama, b.tokens, b.targets); });
        adam.update(slopes);
        return {{"loss", loss}};
    });
    for (int i = 0; i < 300; ++i) step(counting(0, 8, 16));

    std::vector<std::int32_t> tokens{40, 41, 42, 43};
    Array logits = decoder.prefill(0, tokens);
    while (tokens.size() < 12) {
        auto row = logits.values<float>();
        tokens.push_back(static_cast<int>(std::max_element(row.begin(), row.end()) - row.begin()));
        logits = decoder.decode(std::vector{tokens.back()});
    }

    for (auto t : tokens) std::printf("%d ", t);
    std::puts("");
    return tokens.back() == 51 ? 0 : 1;
}

int main() {
    int const gradients = check_gradients(), loop = check_loop(), ranks = check_ranks(),
              generation = check_generation();
    if (gradients + loop + ranks + generation)
        std::printf("wrong: %d %d %d %d\n", gradients, loop, ranks, generation);
    return gradients + loop + ranks + generation ? 1 : 0;
}
