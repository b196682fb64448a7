#pragma once

#include "laws/ranks.hpp"
#include "plait/core/random.hpp"
#include "plait/train/bisect.hpp"

#include <map>
#include <mutex>

/// Recordings of one model on many layouts.
namespace tests {

/// A layout to record on.
struct Way {
    MeshSizes sizes{};
    int zero = 0;
    std::int64_t micro = 1;            // micro-batches over ranks and time together
    std::vector<std::string> lines{};  // of the plan
    bool recompute = false;
    Bits bits = Bits::fast;

    int ranks() const {
        int n = 1;
        for (auto const& [axis, size] : sizes) n *= size;
        return n;
    }
};

inline std::string text_of(Way const& w) {
    std::string text;
    for (auto const& [axis, size] : w.sizes) text += fmt::format("{}={} ", axis, size);
    for (auto const& line : w.lines) text += line + "; ";
    return text +
           fmt::format("zero {}, {} micro-batches{}", w.zero, w.micro, w.recompute ? ", recompute" : "");
}

/// What is not the model's.
struct RecordedRun {
    std::uint64_t seed = 1;
    std::int64_t steps = 2;
    std::string watch = "**";
};

inline std::map<std::string, Array> batch_of(Subject const& s, std::int64_t step, std::uint64_t seed) {
    Array tokens({i32, {s.batch, s.seq}}), targets({i32, {s.batch, s.seq}});
    Random random{seed, 7, static_cast<std::uint32_t>(step)};
    for (std::int64_t i = 0; i < s.batch * s.seq; ++i) {
        auto draw = [&](std::int64_t n) {
            auto x = random.uniform(static_cast<std::uint64_t>(n)) * static_cast<double>(s.config.vocab);
            return std::min(static_cast<std::int32_t>(x), static_cast<std::int32_t>(s.config.vocab - 1));
        };
        tokens.values<std::int32_t>()[static_cast<std::size_t>(i)] = draw(2 * i);
        targets.values<std::int32_t>()[static_cast<std::size_t>(i)] = i % 5 ? draw(2 * i + 1) : -1;
    }
    return {{"tokens", tokens}, {"targets", targets}};
}

inline Recording recording(Subject const& s, Way const& w, RecordedRun const& run = {},
                           Recording const* leader = nullptr, Broken const& broken = {}) {
    Recording result{.layout = text_of(w), .compute = s.compute, .canonical = w.bits == Bits::layout};
    run_ranks(w.ranks(),
              [&](Communicator& real) {
                  auto decorated = broken.world ? broken.world(real) : nullptr;
                  Mesh mesh(decorated ? *decorated : real, w.sizes);
                  Plan plan(mesh);
                  plan.zero(w.zero).micro_batches(w.micro).compute(s.compute).bits(w.bits, s.granularity);
                  plan.stages("blocks.*");
                  for (auto const& line : w.lines) plan.line(line);
                  if (w.recompute) plan.recompute("blocks.*");
                  if (!run.watch.empty()) plan.watch(run.watch);
                  auto t = training(s.family, s.config, plan, cpu_backend(1), s.batch, s.seq);
                  if (broken.program) {
                      auto program = t.step->program();
                      broken.program(program);
                      t.step =
                          std::make_shared<Step>(std::move(program), t.step->dumps(), t.state,
                                                 std::make_shared<Scratch>(t.state->shared_backend()), mesh);
                  }
                  t.step->set_seed(run.seed);
                  auto values = record_steps(
                      real, *t.step, [&](std::int64_t step) { return batch_of(s, step, run.seed); },
                      run.steps, leader);
                  if (real.rank() == 0) result.values = std::move(values);
              },
              {.limit_seconds = 100});
    return result;
}

/// On one rank, in one piece, in f64.
inline Recording exact_recording(Subject s, RecordedRun const& run = {}) {
    s.compute = f64;
    return recording(s, {}, run);
}

}  // namespace tests
