#include "plait/parallel/pipeline.hpp"
#include "plait/train/stage_costs.hpp"
#include "plait/train/trace_file.hpp"

#include "laws/ranks.hpp"
#include "trace_rows.hpp"

#ifdef PLAIT_HAS_JSON
#include <nlohmann/json.hpp>
#endif

using namespace plait;
using namespace tests;

namespace {

constexpr int steps = 2;

/// What the ranks of a run have traced, and the run's outcome.
struct Traced {
    std::vector<std::string> rows;
    std::vector<Program> programs;
    std::vector<double> loss;
    std::vector<Costs> costs;
    std::vector<std::size_t> spans;
};

Traced traced(Subject const& s, Arrangement const& a, bool traces = true) {
    auto const n = static_cast<std::size_t>(a.ranks());
    Traced t{std::vector<std::string>(n), std::vector<Program>(n), std::vector<double>(n),
             std::vector<Costs>(n), std::vector<std::size_t>(n)};
    run_ranks(a.ranks(),
              [&](Communicator& world) {
                  auto const r = static_cast<std::size_t>(world.rank());
                  Mesh const mesh(world, a.sizes());
                  auto run = training_on(mesh, s, a);
                  run();
                  TraceLog log;
                  auto const origin = trace_origin(world);
                  if (traces) run.step->trace(&log);
                  for (int i = 0; i < steps; ++i) t.loss[r] = run().at(0).second.item();
                  run.step->trace(nullptr);
                  auto const events = log.events.size();
                  run();
                  check(log.events.size() == events, "a step that is not traced is noted");
                  t.programs[r] = run.step->program();
                  t.rows[r] = trace_rows(t.programs[r], mesh, log, origin);
                  auto const stages = run.step->dumps().schedule.stages;
                  t.costs[r] = measured_costs(t.programs[r], log, stages);
                  t.spans[r] = pipeline_spans(t.programs[r], log).size();
              },
              {.limit_seconds = 60});
    return t;
}

Arrangement four_ranks() { return {.data = 2, .micro = 4, .pipeline = 2, .schedule = "zb-h1"}; }

}  // namespace

TEST_CASE("pieces of a pipeline have names that say what they do") {
    for (auto work : all_work) {
        CHECK(piece_name(work, 12) == fmt::format("stage 12 {}", letter_of(work)));
        CHECK(slot_of_piece(piece_name(work, 12)) == Slot{work, 12, 0});
    }
    for (auto const* name :
         {"loop 1", "part 1", "receive 3", "sent 3", "stage", "stage 1", "stage F", "stage 1 FB"})
        CHECK_FALSE(slot_of_piece(name));
}

TEST_CASE("costs and spans are those of a log") {
    Program p;
    p.micro_batches = 2, p.collectives = 2;
    p.instructions.assign(6, Instruction{Cast{f32}, nullptr, {}, {}, 0, 0, 0, {}, {}, -1});
    p.instructions[0].collective = Collective{Verb::recv, "pipeline", Combine::sum, 0, 0, 0};
    p.instructions[1].awaits = 0;
    p.instructions[3].collective = Collective{Verb::all_reduce, "data", Combine::sum, 1, -1, 0};
    p.instructions[4].awaits = 1;
    p.pieces = {{"receive 0", 0, 1}, {"stage 1 F", 1, 3}, {"stage 1 W", 3, 5}, {"part 1", 5, 6}};
    p.visits = {{0, 0}, {1, 0}, {0, 1}, {1, 1}, {2, 0}, {3, 0}};
    using enum TraceLog::What;
    TraceLog log;
    log.events = {{instruction, 0, 0, 0, 5, 0},
                  {visit, 0, 0, 0, 5, 0},
                  {instruction, 1, 0, 10, 110, 0},
                  {transfer, 0, 0, 0, 110, 10},
                  {instruction, 2, 0, 110, 1110, 0},
                  {visit, 1, 0, 10, 1120, 0},
                  {instruction, 1, 1, 1200, 1201, 0},
                  {instruction, 2, 1, 1201, 3201, 0},
                  {visit, 3, 1, 1200, 3211, 0},
                  {instruction, 3, 0, 3300, 3310, 0},
                  {instruction, 4, 0, 3310, 3400, 0},
                  {visit, 4, 0, 3300, 3400, 0},
                  {instruction, 5, 0, 3400, 9000, 0},
                  {visit, 5, 0, 3400, 9000, 0},
                  {step, 7, 0, 0, 9001, 0}};
    auto const costs = measured_costs(p, log, 2);
    // Waits for the pipeline are no work of a stage; those for other axes are.
    CHECK(costs.forward_seconds[1] == Approx((1010 + 2010) / 2 * 1e-9));
    CHECK(costs.weight_seconds[1] == Approx(100e-9));
    CHECK(costs.forward_seconds[0] == 0);
    CHECK(costs.input_seconds == std::vector<double>{0, 0});
    auto const spans = pipeline_spans(p, log);
    REQUIRE(spans.size() == 1);
    CHECK((spans[0].start == 10 && spans[0].end == 3400));
    Costs other;
    other.forward_seconds = other.input_seconds = other.weight_seconds = {3, 0};
    auto const all = joined_costs({costs, other});
    CHECK(all.forward_seconds == std::vector<double>{3, costs.forward_seconds[1]});
}

TEST_CASE("what a program has planned for a stage's micro-batches is what its schedule needs of them") {
    for (auto const* schedule : {"gpipe", "1f1b", "zb-h1"}) {
        CAPTURE(schedule);
        Arrangement const a{.micro = 4, .bits = Bits::fast, .pipeline = 2, .schedule = schedule};
        std::vector<Costs> costs;
        std::vector<std::int64_t> planned;
        Schedule order;
        for (int r = 0; r < 2; ++r) {
            auto const t = training_on(Mesh(a.sizes(), r), llama(), a);
            order = t.step->dumps().schedule;
            costs.push_back(stash_costs(t.step->program(), 2));
            CHECK(costs.back().stash_bytes[static_cast<std::size_t>(1 - r)] == 0);
            planned.push_back(0);
            for (auto const& place : t.step->program().places)
                if (place.kind == &MemoryTable::stash) planned.back() += place.bytes;
        }
        auto const all = joined_costs(costs);
        auto const needs = check_schedule(order, all).rank_bytes;
        for (std::size_t r = 0; r < 2; ++r) {
            CHECK(all.held_bytes[r] > 0);
            CHECK(needs[r] <= planned[r]);
            // GPipe has what F makes of all micro-batches at once, and what B makes for W of one.
            if (std::string_view(schedule) != "gpipe") continue;
            CHECK(planned[r] >= 4 * all.stash_bytes[r]);
            CHECK(planned[r] <= 4 * all.stash_bytes[r] + all.held_bytes[r]);
        }
        auto limits = needs;
        CHECK_NOTHROW(check_schedule(order, all, limits));
        --limits[1];
        CHECK_THROWS_WITH(check_schedule(order, all, limits), ContainsSubstring("rank 1, slot "));
    }
}

#ifdef PLAIT_HAS_JSON

namespace {

TraceRows rows_of(std::string const& text) { return TraceRows(nlohmann::json::parse(text)); }

}  // namespace

TEST_CASE(
    "a trace has every visit and instruction of every rank, in one another, and both ends of messages") {
    auto s = llama();
    auto const a = four_ranks();
    auto const t = traced(s, a);
    auto const text = trace_json(t.rows);
    auto const rows = rows_of(text);
    CHECK(rows.fault() == "");
    std::size_t sends = 0;
    for (int r = 0; r < a.ranks(); ++r) {
        auto const& p = t.programs[static_cast<std::size_t>(r)];
        CHECK(rows.names.at({r, -1}) == fmt::format("rank {}: data={}, pipeline={}", r, r / 2, r % 2));
        CHECK(rows.names.at({r, 0}) == "work");
        CHECK(rows.names.at({r, 1}) == "communication");
        CHECK(rows.named(r, "step") == std::vector<std::string>{"step 2", "step 3"});
        std::vector<std::string> visits;
        std::size_t instructions = 0, transfers = 0;
        for (int i = 0; i < steps; ++i)
            for (auto const& v : p.visits) {
                auto const& piece = p.pieces[static_cast<std::size_t>(v.piece)];
                visits.push_back(piece.name);
                instructions += static_cast<std::size_t>(piece.last - piece.first);
                for (int k = piece.first; k < piece.last; ++k) {
                    auto const& c = p.instructions[static_cast<std::size_t>(k)].collective;
                    transfers += c.has_value();
                    sends += c && c->verb == Verb::send;
                }
            }
        CHECK(rows.named(r, "piece") == visits);
        CHECK(std::count(visits.begin(), visits.end(), fmt::format("stage {} W", r % 2)) == steps * 4);
        CHECK(rows.spans.at({r, 0}).size() == instructions + visits.size() + steps);
        std::size_t moved = 0;
        for (auto const& [track, list] : rows.spans)
            moved += track.first == r && track.second > 0 ? list.size() : 0;
        CHECK(moved == transfers);
        CHECK(t.spans[static_cast<std::size_t>(r)] == steps);
        auto const& costs = t.costs[static_cast<std::size_t>(r)];
        for (auto part : {&Costs::forward_seconds, &Costs::input_seconds, &Costs::weight_seconds}) {
            CHECK((costs.*part).at(static_cast<std::size_t>(r % 2)) > 0);
            CHECK((costs.*part).at(static_cast<std::size_t>(1 - r % 2)) == 0);
        }
    }
    CHECK(sends > 0);
    CHECK(rows.sent.size() == sends);
    // Clocks are read, and nothing else changes.
    CHECK(traced(s, a, false).loss == t.loss);
}

TEST_CASE("a trace that is not sound is noticed") {
    auto const sound = traced(llama(), {.micro = 2, .pipeline = 2}).rows;
    REQUIRE(rows_of(trace_json(sound)).fault() == "");
    // A rank alone has arrows of one end.
    CHECK_THAT(rows_of(trace_json({sound[0]})).fault(), ContainsSubstring("arrow"));
    auto broken = [&](std::string const& what, std::string const& with, std::size_t after = 0) {
        auto rows = sound;
        auto const at = rows[0].find(what, rows[0].find("\"ph\": \"X\"", after));
        REQUIRE(at != std::string::npos);
        rows[0].replace(at, what.size(), with);
        return rows_of(trace_json(rows)).fault();
    };
    CHECK(broken("\"dur\": ", "\"dur\": 9") != "");
    CHECK(broken("\"ts\": ", "\"ts\": 9") != "");
    CHECK_THAT(broken("\"tid\": 0", "\"tid\": 9"), ContainsSubstring("has no name"));
}

#endif
