// A pipeline schedule from outside the library: a schedule is a table that says in which order each rank does
// its pieces, so one of your own is a function that fills in the rows. It is checked before anything runs,
// drawn, and then trains a small model on two ranks that are threads, with the bits of one rank.
//
// The schedule goes forward and backward by turns, as 1F1B does, but leaves all weight gradients for the end,
// as nobody waits for them: a smaller bubble, for more memory. Those of Qi et al., "Zero bubble pipeline
// parallelism", 2023, do better in both.
// Run: build/release/bin/examples/05_custom_schedule
#include <algorithm>
#include <cstdio>

#include "plait/comm/threads.hpp"
#include "plait/core/random.hpp"
#include "plait/plait.hpp"
#include "plait/train/shared_state.hpp"

using namespace plait;

/// One stage a rank. Every stage has F, B and W of every micro-batch once; nothing is said of time.
Schedule weights_last(int ranks, int micro_batches) {
    Schedule s;
    s.name = "weights-last";
    s.ranks = s.stages = ranks, s.micro_batches = micro_batches;
    for (int rank = 0; rank < ranks; ++rank) {
        s.rank_of_stage.push_back(rank);  // stage i lies on rank i
        auto& row = s.slots.emplace_back();
        auto then = [&](Work work, int micro) { row.push_back({work, rank, micro}); };
        int const ahead =
            std::min(ranks - rank, micro_batches);  // micro-batches on their way to the last rank
        for (int m = 0; m < ahead; ++m) then(Work::F, m);
        for (int m = 0; m < micro_batches; ++m) {
            then(Work::B, m);
            if (m + ahead < micro_batches) then(Work::F, m + ahead);
        }
        for (int m = 0; m < micro_batches; ++m) then(Work::W, m);
    }
    return s;
}

struct Layer {
    nn::RmsNorm norm{32};
    nn::Linear up{32, 64}, down{64, 32};
    Tensor operator()(Tensor const& x) const { return x + down(gelu(up(norm(x)))); }
    using fields = Fields<&Layer::norm, &Layer::up, &Layer::down>;
};

/// x[rows, 8] -> logits of 4 classes.
struct Classifier {
    nn::Linear in{8, 32}, out{32, 4};
    nn::Stack<Layer> blocks;
    Classifier() { blocks.blocks.resize(4); }
    Tensor operator()(Tensor const& x) const { return out(blocks(in(x))); }
    using fields = Fields<&Classifier::in, &Classifier::blocks, &Classifier::out>;
};

struct Outcome {
    std::vector<double> losses;
    std::uint64_t hash = 0;  // of all weights
    bool operator==(Outcome const&) const = default;
};

/// Trains on as many ranks along the pipeline axis as the world has; what rank 0 gets.
Outcome train(int ranks) {
    Outcome outcome;
    run_ranks(ranks, [&](Communicator& world) {
        Mesh mesh(world, {{"pipeline", ranks}});
        Classifier model;
        optim::AdamW adam{.rate = 1e-2};
        auto memory = state(model, adam, cpu_backend(1));
        // bits = layout: the same bits on every mesh. The glob names what is divided, the function the order.
        auto plan = Plan(mesh).micro_batches(4).bits(Bits::layout).stages({"blocks.*"}, weights_last);
        auto step = compile(
            plan, memory, {{"x", {f32, {64, 8}}}, {"class", {i32, {64}}}}, [&](Batch const& b) -> Row {
                auto [loss, slopes] =
                    value_and_gradients(model, [&] { return cross_entropy(model(b["x"]), b["class"]); });
                adam.update(model, slopes);
                return {{"loss", loss}};
            });
        // The class is the place of the largest of the first four numbers.
        Array x({f32, {64, 8}}), classes({i32, {64}});
        for (std::size_t i = 0; i < 64 * 8; ++i) x.values<float>()[i] = Random{3}.normal(i);
        for (std::size_t i = 0; i < 64; ++i) {
            auto row = x.values<float>().subspan(i * 8, 4);
            classes.values<std::int32_t>()[i] =
                static_cast<int>(std::max_element(row.begin(), row.end()) - row.begin());
        }
        Outcome mine;
        for (int i = 0; i < 30; ++i)
            mine.losses.push_back(step({{"x", x}, {"class", classes}})[0].second.item());
        mine.hash = SharedState(world, memory).parameter_hash();  // all ranks together
        if (world.rank() > 0) return;
        outcome = mine;
        if (ranks > 1) std::printf("\nwhat each stage has\n%s", step.dumps().modules.text().c_str());
    });
    return outcome;
}

int main() {
    // By default F, B and W of a stage take a second each; Costs holds other times, and bytes.
    auto const own = weights_last(2, 4), usual = make_schedule("1f1b", 2, 1, 4);
    auto const times = check_schedule(own), usual_times = check_schedule(usual);
    std::printf("%s\n%s\n%s\n%s\n", usual.name.c_str(), schedule_text(usual, usual_times).c_str(),
                own.name.c_str(), schedule_text(own, times).c_str());
    std::printf("bubble %.1f %% of the work, %s has %.1f %%; stashes on rank 0: %d, %s has %d\n",
                100 * times.bubble_fraction, usual.name.c_str(), 100 * usual_times.bubble_fraction,
                times.rank_copies[0], usual.name.c_str(), usual_times.rank_copies[0]);

    // What cannot run is refused with rank and slot: here rank 0 wants a gradient before it goes forward.
    auto stuck = own;
    std::rotate(stuck.slots[0].begin(), stuck.slots[0].begin() + 2, stuck.slots[0].begin() + 3);
    bool refused = false;
    try {
        check_schedule(stuck);
    } catch (UsageError const& e) {
        refused = true;
        std::printf("refused: %s\n", e.what());
    }

    auto const one = train(1), two = train(2);
    std::printf(
        "\none rank   loss %.4f -> %.4f  params_hash %016llx\ntwo ranks  loss %.4f -> %.4f  params_hash "
        "%016llx\n",
        one.losses.front(), one.losses.back(), static_cast<unsigned long long>(one.hash), two.losses.front(),
        two.losses.back(), static_cast<unsigned long long>(two.hash));
    bool const ok = refused && times.bubble_fraction < usual_times.bubble_fraction && one == two &&
                    two.losses.back() < 0.5 * two.losses.front();
    return ok ? 0 : 1;
}
