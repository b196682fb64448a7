#include "plait/parallel/pipeline.hpp"

#include "catch.hpp"
#include "laws/pipelines.hpp"
#include "scratch.hpp"

#include <cmath>
#include <map>
#include <set>

using namespace plait;
using namespace tests;

namespace {

/// A message of a program: its start.
struct Message {
    Verb verb = Verb::send;
    int peer = 0, edge = 0, micro = 0;
    Meta meta;
};

/// What one rank does along pipeline, in its order: starts of messages, and waits for them.
struct Doing {
    bool starts = false;
    Message message;
};
std::vector<Doing> steps_of(Program const& program) {
    std::vector<Doing> steps;
    std::map<int, Message> by_number;
    for (auto const& i : program.instructions)
        if (i.collective && i.collective->peer >= 0) {
            auto const& c = *i.collective;
            by_number[c.number] = {c.verb, c.peer, c.site, 0,
                                   c.verb == Verb::send ? i.in[0].meta : i.out[0].meta};
        }
    for (auto const& visit : program.visits) {
        auto const& piece = program.pieces[static_cast<std::size_t>(visit.piece)];
        for (int k = piece.first; k < piece.last; ++k) {
            auto const& i = program.instructions[static_cast<std::size_t>(k)];
            auto it = by_number.find(i.collective ? i.collective->number : i.awaits);
            if (it == by_number.end()) continue;
            auto m = it->second;
            m.micro = visit.micro;
            steps.push_back({i.collective.has_value(), m});
        }
    }
    return steps;
}

using Ranks = std::vector<std::vector<Doing>>;

Ranks ranks_of(Subject const& s, Arrangement const& a) {
    Ranks all;
    for (int r = 0; r < a.pipeline; ++r) {
        // Of the ranks at one place of the other axes.
        int const stride = std::max(a.tensor, 1);
        all.push_back(steps_of(training_on(Mesh(a.sizes(), r * stride), s, a).step->program()));
    }
    return all;
}

/// Every message that one rank starts must meet one on the other side, in the same order for each pair.
std::string pairing_fault(Ranks const& ranks) {
    auto const count = static_cast<int>(ranks.size());
    auto started = [&](int rank, int peer, Verb verb) {
        std::vector<Message> list;
        for (auto const& s : ranks[static_cast<std::size_t>(rank)])
            if (s.starts && s.message.peer == peer && s.message.verb == verb) list.push_back(s.message);
        return list;
    };
    for (int from = 0; from < count; ++from)
        for (int to = 0; to < count; ++to) {
            auto const sent = started(from, to, Verb::send), received = started(to, from, Verb::recv);
            if (sent.size() != received.size())
                return fmt::format("{} sends {} messages to {}, which takes {}", from, sent.size(), to,
                                   received.size());
            for (std::size_t i = 0; i < sent.size(); ++i)
                if (sent[i].edge != received[i].edge || sent[i].micro != received[i].micro ||
                    sent[i].meta != received[i].meta)
                    return fmt::format(
                        "message {} of {} to {} is edge {} of micro-batch {}, taken as {} of {}", i, from, to,
                        sent[i].edge, sent[i].micro, received[i].edge, received[i].micro);
        }
    return "";
}

/// Runs all ranks until nothing moves: a message is there when both sides have started it.
std::string deadlock(Ranks const& ranks) {
    using Key = std::tuple<int, int, int, int>;  // from, to, edge, micro-batch
    std::set<Key> sent, taken;
    std::vector<std::size_t> at(ranks.size(), 0);
    for (bool moved = true; moved;) {
        moved = false;
        for (std::size_t r = 0; r < ranks.size(); ++r)
            for (; at[r] < ranks[r].size(); ++at[r], moved = true) {
                auto const& [starts, m] = ranks[r][at[r]];
                bool const sends = m.verb == Verb::send;
                auto const me = static_cast<int>(r);
                Key const key{sends ? me : m.peer, sends ? m.peer : me, m.edge, m.micro};
                if (starts) (sends ? sent : taken).insert(key);
                else if (!(sends ? taken : sent).contains(key)) break;
            }
    }
    for (std::size_t r = 0; r < ranks.size(); ++r)
        if (at[r] < ranks[r].size()) {
            auto const& m = ranks[r][at[r]].message;
            return fmt::format("rank {} waits for edge {} of micro-batch {}", r, m.edge, m.micro);
        }
    return "";
}

}  // namespace

TEST_CASE("messages meet in the same order on both sides, and nobody waits for ever") {
    int programs = 0, messages = 0;
    for (auto schedule : pipeline_schedules)
        for (int ranks : {2, 3, 4})
            for (int micro : {1, 3, 4, 8}) {
                if (schedule == "interleaved" && micro % ranks) continue;
                auto const stages = stages_of_rank(schedule);
                auto s = pipeline_subjects(ranks * stages)[static_cast<std::size_t>(programs % 4)];
                s.batch = micro * 2;
                Arrangement a{.micro = micro,
                              .recompute = programs % 3 == 0,
                              .bits = Bits::fast,
                              .pipeline = ranks,
                              .schedule = std::string(schedule),
                              .virtual_stages = stages};
                INFO(text_of(s, a));
                auto const all = ranks_of(s, a);
                CHECK(pairing_fault(all) == "");
                CHECK(deadlock(all) == "");
                programs += ranks;
                for (auto const& steps : all) messages += static_cast<int>(steps.size()) / 2;
            }
    fmt::print("{} programs with {} starts of messages\n", programs, messages);
    CHECK(messages > 1500);
}

TEST_CASE("messages meet where other axes divide too, and under bits = layout") {
    auto const rows = pairwise(pipeline_table());
    for (std::size_t k = 0; k < rows.size(); k += 9) {
        auto const c = pipeline_case(rows[k]);
        INFO(text_of(c.subject, c.arrangement));
        auto const all = ranks_of(c.subject, c.arrangement);
        CHECK(pairing_fault(all) == "");
        CHECK(deadlock(all) == "");
    }
}

TEST_CASE("a message that is dropped, doubled or out of order is found, and so is a wait that never ends") {
    auto const s = pipeline_subjects()[3];
    auto const right = ranks_of(s, {.micro = 4, .bits = Bits::fast, .pipeline = 2});
    REQUIRE(pairing_fault(right) == "");
    REQUIRE(deadlock(right) == "");
    int dropped = 0, swapped = 0, stuck = 0;
    for (std::size_t r = 0; r < right.size(); ++r)
        for (std::size_t i = 0; i < right[r].size(); ++i) {
            if (!right[r][i].starts) continue;
            auto broken = right;
            auto& row = broken[r];
            row.erase(row.begin() + static_cast<std::ptrdiff_t>(i));
            CHECK(pairing_fault(broken) != "");
            CHECK(deadlock(broken) != "");
            ++dropped;
            broken = right;
            for (auto k = i + 1; k < row.size(); ++k)
                if (row[k].starts && row[k].message.verb == row[i].message.verb) {
                    std::swap(row[i].message, row[k].message);
                    CHECK(pairing_fault(broken) != "");
                    ++swapped;
                    break;
                }
            // Both wait for what the other does first.
            broken = right;
            std::rotate(row.begin() + static_cast<std::ptrdiff_t>(i),
                        row.begin() + static_cast<std::ptrdiff_t>(i) + 1, row.end());
            stuck += deadlock(broken) != "";
        }
    CHECK(dropped > 10);
    CHECK(swapped > 10);
    CHECK(stuck > 5);
}

TEST_CASE("a variable is on the ranks whose stages read it, with its moments") {
    for (std::size_t model : {0, 1, 3})
        for (auto schedule : {"1f1b", "interleaved", "zb-v"}) {
            auto const stages = stages_of_rank(schedule);
            auto const s = pipeline_subjects(8)[model];
            Arrangement const a{.micro = 4,
                                .bits = Bits::fast,
                                .pipeline = 4,
                                .schedule = schedule,
                                .virtual_stages = stages};
            auto const order = make_schedule(schedule, 4, stages, 4);
            INFO(text_of(s, a));
            std::map<std::string, std::int64_t> total;  // bytes of all ranks
            std::map<std::string, std::int64_t> whole;
            for (int r = 0; r < 4; ++r) {
                auto const t = training_on(Mesh(a.sizes(), r), s, a);
                auto const modules = find_stages(t.step->dumps().recorded, {"blocks.*"}, order.stages);
                auto const& holders = t.step->dumps().holders;
                for (auto const& v : t.state->variables()) {
                    auto const& path = v->kind == VariableKind::optimizer ? v->parameter : v->path;
                    auto rank_of = [&](int stage) {
                        return order.rank_of_stage[static_cast<std::size_t>(stage)];
                    };
                    int const first = rank_of(0), last = rank_of(order.stages - 1);
                    std::set<int> wanted;
                    if (int own = modules.of(path); own >= 0) wanted = {rank_of(own)};
                    else if (path == "tokens.weight")
                        wanted = s.config.tied ? std::set{first, last} : std::set{first};
                    else if (path == "positions.weight") wanted = {first};
                    else wanted = {last};
                    if (v->meta.shape.rank() == 0) continue;
                    INFO(v->path);
                    CHECK(holders.at(v.get()) == wanted);
                    CHECK((t.state->block_of(*v).bytes() > 0) == wanted.contains(r));
                    total[v->path] += t.state->block_of(*v).bytes();
                    whole[v->path] = v->meta.bytes() * static_cast<std::int64_t>(wanted.size());
                }
            }
            CHECK(total == whole);
        }
}

namespace {

struct Two {
    nn::Linear one{4, 4}, two{4, 4};
    using fields = Fields<&Two::one, &Two::two>;
};

}  // namespace

TEST_CASE("an op on variables of two stages is refused, one on what they make is not") {
    for (bool apart : {true, false}) {
        Two model;
        optim::AdamW adam;
        auto const all = state(model, adam, cpu_backend(1));
        auto compiled = [&] {
            Mesh const mesh({{"pipeline", 2}}, 0);
            return compile(Plan(mesh)
                               .stages({"one", "two"},
                                       [](int ranks, int micro_batches) {
                                           return make_schedule("1f1b", ranks, 1, micro_batches);
                                       })
                               .micro_batches(2),
                           all, {{"x", {f32, {4, 4}}}}, [&](Batch const& b) -> Row {
                               auto [loss, g] = value_and_gradients(model, [&] {
                                   Tensor const one = model.one.weight, two = model.two.weight;
                                   auto const tie =
                                       apart ? sum(square(one)) - sum(square(two)) : sum(square(one - two));
                                   return mean(square(model.two(model.one(b["x"])))) + tie;
                               });
                               adam.update(model, g);
                               return {{"loss", loss}};
                           });
        };
        if (apart) CHECK_NOTHROW(compiled());
        else CHECK_THROWS_WITH(compiled(), ContainsSubstring("reads variables that no rank of the pipeline"));
    }
}

TEST_CASE("every schedule runs to its end on threads, with the losses of one rank") {
    int runs = 0;
    for (auto schedule : pipeline_schedules)
        for (int ranks : {2, 3})
            for (int micro : {1, 3, 6}) {
                if (schedule == "interleaved" && micro % ranks) continue;
                auto const stages = stages_of_rank(schedule);
                auto s = pipeline_subjects(ranks * stages)[static_cast<std::size_t>(runs % 4)];
                s.batch = 6, s.seq = 8;
                Arrangement const a{.micro = micro,
                                    .bits = Bits::fast,
                                    .pipeline = ranks,
                                    .schedule = std::string(schedule),
                                    .virtual_stages = stages};
                INFO(text_of(s, a));
                auto const& want = wanted(s, Bits::fast);
                for (auto const& got : outcomes(s, a, 2))
                    for (std::size_t i = 0; i < got.loss.size(); ++i)
                        CHECK(std::abs(got.loss[i] - want.loss[i]) < 1e-5);
                ++runs;
            }
    CHECK(runs > 20);
}
