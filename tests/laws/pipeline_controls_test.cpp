// What the law of pipeline_test.cpp must notice: programs, messages and schedules that are broken on purpose.
#include "catch.hpp"
#include "laws/pipelines.hpp"
#include "scratch.hpp"

#include <algorithm>
#include <atomic>

using namespace plait;
using namespace tests;

namespace {

Subject subject() { return pipeline_subjects().front(); }

Arrangement two_ranks(std::string const& schedule = "1f1b") {
    return {.micro = 4,
            .tensor = 1,
            .pipeline = 2,
            .schedule = schedule,
            .virtual_stages = stages_of_rank(schedule)};
}

bool pipeline_law_holds(Arrangement const& a, Broken const& broken = {}) {
    auto const& want = wanted(subject(), Bits::layout, true);
    for (auto const& o : outcomes(subject(), a, 3, broken))
        if (!(o == want)) return false;
    return true;
}

/// A world in which one message, the `which`-th edge along pipeline that rank 0 sends, comes as zeros.
class Losing : public Communicator {
  public:
    Losing(Communicator& real, int which)
        : Communicator(real.rank(), real.size(), real.name()), real_(&real), which_(which) {}
    Losing(std::unique_ptr<Communicator> real, int which) : Losing(*real, which) { owned_ = std::move(real); }

    std::unique_ptr<Communicator> split(int color, int key, std::string name) override {
        auto part = real_->split(color, key, std::move(name));
        return part ? std::make_unique<Losing>(std::move(part), which_) : nullptr;
    }
    Pending start(Call call, ConstView in, View out) override {
        bool const lost = name() == "pipeline" && rank() == 0 && call.verb == Verb::send &&
                          call.site == static_cast<std::uint64_t>(which_) + 1;
        if (!lost) return real_->start(call, in, out);
        zeros_.resize(std::max(zeros_.size(), static_cast<std::size_t>(in.bytes())));
        return real_->start(call, {zeros_.data(), in.count, in.dtype}, out);
    }

  protected:
    std::unique_ptr<Communicator> part(Part const&) override { fail("split is the real one's"); }

  private:
    std::unique_ptr<Communicator> owned_;
    Communicator* real_;
    int which_;
    std::vector<std::byte> zeros_;
};

/// Edges that rank 0 sends in a loop.
std::vector<int> edges_of_first_rank(Arrangement const& a) {
    std::vector<int> edges;
    auto const t = training_on(Mesh(a.sizes(), 0), subject(), a);
    for (auto const& piece : t.step->program().pieces)
        for (int i = piece.first; i < piece.last && piece.name.starts_with("stage "); ++i)
            if (auto const& c = t.step->program().instructions[static_cast<std::size_t>(i)].collective;
                c && c->verb == Verb::send)
                edges.push_back(c->site);
    return edges;
}

/// All micro-batches take the first one's copy of the stash.
int share_copies(Program& program) {
    int changed = 0;
    for (auto& table : program.copies) {
        std::vector<int> const one(table.of_micro.size(), table.of_micro[0]);
        changed += table.of_micro != one;
        table.of_micro = one;
    }
    return changed;
}

/// Two of the micro-batches change places in the visits of one piece that receives.
bool swap_messages(Program& program) {
    std::vector<Program::Visit*> visits;
    for (auto& v : program.visits)
        if (program.pieces[static_cast<std::size_t>(v.piece)].name.starts_with("receive ") &&
            (visits.empty() || visits.front()->piece == v.piece))
            visits.push_back(&v);
    if (visits.size() < 2) return false;
    std::swap(visits[0]->micro, visits[1]->micro);
    return true;
}

/// Trains two steps by a schedule of one's own; the hash of each rank.
std::vector<std::uint64_t> hashes_by(Schedule const& schedule) {
    std::vector<std::uint64_t> all(2);
    run_ranks(2,
              [&](Communicator& world) {
                  auto const s = subject();
                  auto const a = two_ranks();
                  Mesh mesh(world, a.sizes());
                  auto plan = a.plan(mesh, s);
                  plan.stages({"blocks.*"}, [&](int, int) { return schedule; });
                  plan.micro_batches(schedule.micro_batches);
                  auto t = training(s.family, s.config, plan, cpu_backend(1), s.batch, s.seq);
                  t(), t();
                  all[static_cast<std::size_t>(world.rank())] = SharedState(world, t.state).parameter_hash();
              },
              {.limit_seconds = 20});
    return all;
}

}  // namespace

TEST_CASE("a stash whose micro-batches lie on each other changes the hash") {
    for (std::string schedule : {"gpipe", "1f1b", "interleaved", "zb-v"}) {
        CAPTURE(schedule);
        auto const a = two_ranks(schedule);
        std::atomic<int> changed = 0;
        CHECK(pipeline_law_holds(a, {.program = [](Program&) {}}));
        CHECK(!pipeline_law_holds(a, {.program = [&](Program& p) { changed += share_copies(p); }}));
        CHECK(changed > 0);
    }
}

TEST_CASE("an edge whose message is lost changes the hash") {
    for (std::string schedule : {"1f1b", "interleaved"}) {
        auto const a = two_ranks(schedule);
        auto const edges = edges_of_first_rank(a);
        CHECK(edges.size() >= (schedule == "1f1b" ? 1u : 2u));
        for (int edge : edges) {
            CAPTURE(schedule, edge);
            auto losing = [&](int which) {
                return Broken{
                    .world = [which](Communicator& real) { return std::make_unique<Losing>(real, which); }};
            };
            CHECK(pipeline_law_holds(a, losing(-1)));
            CHECK(!pipeline_law_holds(a, losing(edge)));
        }
    }
}

TEST_CASE("two micro-batches whose messages change places change the hash") {
    auto const a = two_ranks("gpipe");
    std::atomic<int> swapped = 0;
    CHECK(!pipeline_law_holds(a, {.program = [&](Program& p) {
                                  if (p.text().find("stage 1 F") != std::string::npos)
                                      swapped += swap_messages(p);
                              }}));
    CHECK(swapped == 1);
}

TEST_CASE("two slots that change places are refused, or leave the bits as they were") {
    auto const right = make_schedule("1f1b", 2, 1, 2);
    auto const want = hashes_by(right).front();
    int refusals = 0, same = 0;
    for (std::size_t r = 0; r < right.slots.size(); ++r)
        for (std::size_t i = 0; i + 1 < right.slots[r].size(); ++i) {
            auto swapped = right;
            std::swap(swapped.slots[r][i], swapped.slots[r][i + 1]);
            CAPTURE(r, to_string(right.slots[r][i]), to_string(right.slots[r][i + 1]));
            auto got = std::vector<std::uint64_t>{};
            auto const refusal = message_of<UsageError>([&] { got = hashes_by(swapped); });
            if (refusal.empty()) {
                CHECK(got == std::vector{want, want});
                ++same;
            } else {
                // Before anything runs, and by rank and slot.
                CHECK_THAT(refusal, ContainsSubstring("schedule 1f1b"));
                CHECK_THAT(refusal, ContainsSubstring("rank"));
                ++refusals;
            }
        }
    CHECK(refusals >= 4);
    CHECK(same >= 1);
}
