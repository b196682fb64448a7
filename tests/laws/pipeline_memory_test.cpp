// What a rank of a pipeline keeps of the micro-batches that are under way: as many copies as the schedule has
// them alive, to the byte, and none that is overwritten.
#include "catch.hpp"
#include "laws/pipelines.hpp"
#include "laws/place_law.hpp"
#include "plait/parallel/schedule_check.hpp"
#include "plait/parallel/schedule_live.hpp"

#include <cstdlib>

using namespace plait;
using namespace tests;

namespace {

/// A rank of a layout.
struct Share {
    Subject subject;
    Arrangement arrangement;
    int rank = 0;  // of the world
    Training t;

    Share(Subject s, Arrangement a, int r)
        : subject(std::move(s)),
          arrangement(std::move(a)),
          rank(r),
          t(training_on(Mesh(arrangement.sizes(), rank), subject, arrangement)) {}
    Program const& program() const { return t.step->program(); }
    Schedule schedule() const {
        auto const& a = arrangement;
        return make_schedule(a.schedule, a.pipeline, a.virtual_stages, static_cast<int>(a.micro));
    }
    std::string text() const { return fmt::format("{}, rank {}", text_of(subject, arrangement), rank); }
};

/// A piece of a program that a schedule runs: "stage 1 B", "receive 3" or "sent 3".
struct PieceName {
    std::string kind;  // "F", "B", "W", "receive" or "sent"
    int stage = -1;

    explicit PieceName(std::string const& name) {
        auto const space = name.rfind(' ');
        if (!name.starts_with("stage ")) kind = name.substr(0, space);
        else kind = name.substr(space + 1), stage = std::atoi(name.c_str() + 6);
    }
    bool in_loop() const { return kind == "receive" || kind == "sent" || stage >= 0; }
};

/// Who uses one table of copies.
struct Sharing {
    std::set<int> pieces;
    std::set<std::string> kinds;
    std::set<int> stages;
};
struct Pool {
    std::int64_t bytes = 0, copy = 0;  // of all copies, of one
    std::map<int, Sharing> tables;
};

/// The places of the stash, and which pieces touch them; a message that goes uses its value until it is
/// waited for.
std::vector<Pool> pools_of(Program const& program) {
    std::map<std::int64_t, Pool> pools;  // by offset
    for (auto const& p : program.places)
        if (p.kind == &MemoryTable::stash) pools[p.offset].bytes = p.bytes;
    auto touch = [&](int piece, Operand const& o) {
        if (o.copies < 0) return;
        auto it = pools.upper_bound(o.offset);
        if (it == pools.begin()) return;
        auto& pool = (--it)->second;
        if (o.offset >= it->first + pool.bytes) return;  // a gradient's
        PieceName const part(program.pieces[static_cast<std::size_t>(piece)].name);
        pool.copy = o.copy_stride;
        auto& t = pool.tables[o.copies];
        t.pieces.insert(piece), t.kinds.insert(part.kind);
        if (part.stage >= 0) t.stages.insert(part.stage);
    };
    std::map<int, Operand> sent;  // by number
    for (auto const& i : program.instructions)
        if (i.collective && i.collective->verb == Verb::send) sent[i.collective->number] = i.in[0];
    for (int p = 0; p < static_cast<int>(program.pieces.size()); ++p) {
        auto const& piece = program.pieces[static_cast<std::size_t>(p)];
        if (!PieceName(piece.name).in_loop()) continue;
        for (int k = piece.first; k < piece.last; ++k) {
            auto const& i = program.instructions[static_cast<std::size_t>(k)];
            for (auto const* list : {&i.in, &i.out})
                for (auto const& o : *list) touch(p, o);
            if (auto it = sent.find(i.awaits); it != sent.end()) touch(p, it->second);
        }
    }
    std::vector<Pool> all;
    for (auto& [offset, pool] : pools) all.push_back(std::move(pool));
    return all;
}

/// How many micro-batches of all that share a pool are in use at one time, counted visit by visit.
int most_in_use(Program const& program, Pool const& pool) {
    int most = 0;
    auto const count = static_cast<int>(program.visits.size());
    std::vector<int> change(static_cast<std::size_t>(count) + 1, 0);
    for (auto const& [table, sharing] : pool.tables) {
        std::map<int, std::pair<int, int>> use;  // by micro-batch
        for (int v = 0; v < count; ++v) {
            auto const& visit = program.visits[static_cast<std::size_t>(v)];
            if (!sharing.pieces.contains(visit.piece)) continue;
            auto [it, fresh] = use.try_emplace(visit.micro, v, v);
            it->second.second = v;
        }
        for (auto const& [micro, times] : use)
            ++change[static_cast<std::size_t>(times.first)],
                --change[static_cast<std::size_t>(times.second) + 1];
    }
    int now = 0;
    for (int c : change) most = std::max(most, now += c);
    return most;
}

std::string text_of(Pool const& pool) {
    std::string text = fmt::format("{} B of {} B a copy:", pool.bytes, pool.copy);
    for (auto const& [table, sharing] : pool.tables) {
        text += fmt::format(" c{}", table);
        for (auto const& k : sharing.kinds) text += " " + k;
        for (int s : sharing.stages) text += fmt::format(" {}", s);
    }
    return text;
}

/// What is wrong with the bytes of a rank's stash.
std::string stash_fault(Program const& program) {
    std::int64_t bytes = 0;
    for (auto const& pool : pools_of(program)) {
        auto const most = most_in_use(program, pool);
        if (pool.bytes != pool.copy * most) return fmt::format("{}: {} are in use", text_of(pool), most);
        bytes += pool.bytes;
    }
    if (bytes != program.memory.stash) return fmt::format("stash {}, places {}", program.memory.stash, bytes);
    return "";
}

/// What lives from the first of these pieces to the last.
StashLife life_of(std::set<std::string> const& kinds) {
    return {kinds.contains("F") ? Work::F : Work::B, kinds.contains("W") ? Work::W : Work::B};
}

/// The least and the most copies that a pool may have, by the schedule alone. Where no message is among what
/// shares it, one life alone needs what the schedule has alive, of the stages together; a value that comes is
/// there up to a slot earlier, one that goes is held until it is taken.
std::pair<int, int> copies_of(Schedule const& schedule, Pool const& pool) {
    std::vector<int> pools;
    for (int s = 0; s < schedule.stages; ++s) pools.push_back(s);
    int shared = -1, least = 0, most = 0;
    std::set<std::pair<Work, Work>> lives;
    bool messages = false;
    std::set<int> stages;
    for (auto const& [table, sharing] : pool.tables) {
        // What crosses to another stage of the same rank is there from one to the other.
        messages = messages || sharing.stages.size() > 1 || sharing.kinds.contains("receive") ||
                   sharing.kinds.contains("sent");
        for (int s : sharing.stages) {
            if (shared < 0) shared = s;
            pools[static_cast<std::size_t>(s)] = shared;
            stages.insert(s);
        }
        auto const life = life_of(sharing.kinds);
        lives.emplace(life.from, life.to);
        if (sharing.stages.size() != 1) continue;
        auto const own = live_counts(schedule, life)[static_cast<std::size_t>(*sharing.stages.begin())];
        least = std::max(least, own), most += own;
    }
    if (messages) return {std::min(least, 1), schedule.micro_batches * static_cast<int>(pool.tables.size())};
    if (lives.size() == 1 && pool.tables.size() == stages.size()) {
        StashLife const life{lives.begin()->first, lives.begin()->second};
        least = most = live_counts(schedule, life, pools)[static_cast<std::size_t>(shared)];
    }
    return {least, most};
}

/// Pools by how they are told from the schedule.
struct Told {
    int exactly = 0, within = 0;
    int published = 0;  // of the first, those that all of a rank's stages share from F to W
};

void check_copies(Share const& share, Told& told) {
    auto const schedule = share.schedule();
    auto const timeline = check_schedule(schedule);
    int const r = share.t.step->mesh().axis("pipeline").coordinate;
    CHECK(stash_fault(share.program()) == "");
    std::size_t stages = 0;
    for (int rank : schedule.rank_of_stage) stages += rank == r;
    for (auto const& pool : pools_of(share.program())) {
        INFO(text_of(pool));
        auto const [least, most] = copies_of(schedule, pool);
        auto const copies = pool.bytes / pool.copy;
        CHECK(copies >= least);
        CHECK(copies <= most);
        ++(least == most ? told.exactly : told.within);
        // What lives from forward to W in all of a rank's stages: the number that is published.
        bool stash = pool.tables.size() == stages;
        for (auto const& [table, sharing] : pool.tables)
            stash = stash && sharing.kinds.contains("F") && sharing.kinds.contains("W") &&
                    !sharing.kinds.contains("receive");
        if (!stash) continue;
        ++told.published;
        CHECK(copies == timeline.rank_copies[static_cast<std::size_t>(r)]);
    }
}

void check_places(std::size_t every) {
    int messages = 0, programs = 0;
    auto const rows = pairwise(pipeline_table());
    for (std::size_t k = 0; k < rows.size(); k += every, ++programs) {
        auto c = pipeline_case(rows[k]);
        auto& a = c.arrangement;
        if (k % 2) a.bits = Bits::fast;
        // The first rank, the last, and one between them.
        Share share(c.subject, a, static_cast<int>(k * 7 + k / 3) % a.ranks());
        INFO(share.text());
        PlaceLaw law(share.t);
        CHECK(law.faults_of(law.program()) == "");
        CHECK(stash_fault(law.program()) == "");
        for (auto const& i : law.program().instructions) messages += i.collective && i.collective->peer >= 0;
    }
    CHECK(messages > 8 * programs);
    fmt::print("{} programs of pipelines, {} messages\n", programs, messages);
}

}  // namespace

TEST_CASE("a rank's stash has as many copies as the schedule has micro-batches under way") {
    Told told;
    int programs = 0;
    for (auto schedule : pipeline_schedules)
        for (int ranks : {2, 4})
            for (int micro : {1, 4, 12}) {
                auto const stages = stages_of_rank(schedule);
                if (schedule == "interleaved" && micro % ranks) continue;
                auto s = pipeline_subjects(ranks * stages)[programs % 4];
                s.batch = 24;
                s.compute = programs % 3 ? f32 : bf16;
                Arrangement a{.micro = micro,
                              .recompute = programs % 5 == 4,
                              .bits = Bits::fast,
                              .pipeline = ranks,
                              .schedule = std::string(schedule),
                              .virtual_stages = stages};
                for (int r = 0; r < ranks; ++r, ++programs) {
                    Share share(s, a, r);
                    INFO(share.text());
                    check_copies(share, told);
                }
            }
    fmt::print(
        "{} programs: {} pools have the copies of their schedule exactly, {} with messages or lives of "
        "several lengths within bounds; {} have the number that is published\n",
        programs, told.exactly, told.within, told.published);
    CHECK(told.exactly > 4 * told.within);
    CHECK(told.published > 150);
}

TEST_CASE("1F1B's first rank holds as many micro-batches as there are ranks, its last one; GPipe's all") {
    for (int ranks : {2, 4})
        for (int micro : {1, 2, 4, 8}) {
            auto copies = [&](std::string const& schedule, int r) {
                Share share(pipeline_subjects()[1],
                            {.micro = micro, .bits = Bits::fast, .pipeline = ranks, .schedule = schedule}, r);
                std::int64_t most = 0;
                for (auto const& pool : pools_of(share.program())) {
                    auto const& kinds = pool.tables.begin()->second.kinds;
                    if (pool.tables.size() == 1 && kinds == std::set<std::string>{"F", "W"})
                        most = std::max(most, pool.bytes / pool.copy);
                }
                return most;
            };
            CAPTURE(ranks, micro);
            CHECK(copies("1f1b", 0) == std::min(ranks, micro));
            CHECK(copies("1f1b", ranks - 1) == 1);
            for (int r = 0; r < ranks; ++r) CHECK(copies("gpipe", r) == micro);
        }
}

TEST_CASE("stages between the ends keep the same bytes of a micro-batch, and no schedule more than it may") {
    // Thin ends: the inner ranks' stages are alike.
    auto s = pipeline_subjects(8)[1];
    std::map<std::pair<std::string, int>, std::int64_t> known;
    auto stash = [&](std::string const& schedule, int r) {
        auto [it, fresh] = known.try_emplace({schedule, r}, 0);
        if (!fresh) return it->second;
        Share share(s,
                    {.micro = 8,
                     .bits = Bits::fast,
                     .pipeline = 4,
                     .schedule = schedule,
                     .virtual_stages = stages_of_rank(schedule)},
                    r);
        return it->second = share.program().memory.stash;
    };
    auto const most = stash("1f1b", 0);
    fmt::print("bytes of the stash by rank\n");
    for (std::string schedule : {"gpipe", "1f1b", "interleaved", "zb-h1", "zb-v"}) {
        fmt::print("  {:12}", schedule);
        for (int r = 0; r < 4; ++r) fmt::print(" {:8}", stash(schedule, r));
        fmt::print("\n");
    }
    for (int r : {1, 2}) {
        CAPTURE(r);
        CHECK(stash("1f1b", r) < stash("1f1b", r - 1));
        CHECK(stash("zb-h1", r) <= most);
        CHECK(stash("zb-v", r) <= most);
        // vp + p - 1 - 2r halves, and not a copy of all more for what comes early.
        CHECK(stash("interleaved", r) < most * (11 - 2 * r + 2) / 8);
        CHECK(stash("gpipe", r) > stash("1f1b", 0));
    }
}

TEST_CASE("a rank of a pipeline takes what its plan says") {
    for (auto schedule : pipeline_schedules)
        for (auto bits : {Bits::fast, Bits::layout}) {
            Arrangement a{.data = 2,
                          .micro = 4,
                          .zero = 2,
                          .bits = bits,
                          .pipeline = 2,
                          .schedule = std::string(schedule),
                          .virtual_stages = stages_of_rank(schedule)};
            auto const s = pipeline_subjects().front();
            INFO(text_of(s, a));
            std::vector<std::int64_t> taken(static_cast<std::size_t>(a.ranks())), planned = taken,
                                                                                  held = taken;
            run_ranks(a.ranks(), [&](Communicator& world) {
                auto r = static_cast<std::size_t>(world.rank());
                auto counting = std::make_shared<Counting>();
                Mesh mesh(world, a.sizes());
                auto t = training_on(mesh, s, a, {.backend = counting});
                planned[r] = t.step->memory().total();
                t(), t();
                taken[r] = counting->taken;
                held[r] = t.state->bytes() + t.step->program().scratch_bytes;
            });
            CHECK(taken == planned);
            CHECK(taken == held);
        }
}

TEST_CASE("no value of a pipeline's rank is overwritten before its last read") { check_places(5); }

TEST_CASE("no value of any rank of a pipeline is overwritten before its last read", "[slow]") {
    check_places(1);
}

TEST_CASE("a copy that two micro-batches have at one time is found") {
    int tables = 0;
    for (auto schedule : {"gpipe", "1f1b", "interleaved", "zb-h1", "zb-v"}) {
        Share share(pipeline_subjects()[1],
                    {.micro = 4,
                     .bits = Bits::fast,
                     .pipeline = 2,
                     .schedule = schedule,
                     .virtual_stages = stages_of_rank(schedule)},
                    0);
        INFO(share.text());
        PlaceLaw law(share.t);
        REQUIRE(law.faults_of(law.program()) == "");
        Program program = law.program();
        for (auto& table : program.copies) {
            auto const first = table.of_micro[0];
            auto const other =
                std::find_if(table.of_micro.begin(), table.of_micro.end(), [&](int c) { return c != first; });
            if (other == table.of_micro.end()) continue;
            auto const right = std::exchange(table.of_micro, std::vector<int>(table.of_micro.size(), first));
            CHECK(law.faults_of(program) != "");
            table.of_micro = right;
            ++tables;
        }
        // Nor is a byte more or less taken for right.
        for (auto& place : program.places)
            if (place.kind == &MemoryTable::stash) {
                place.bytes += 64;
                CHECK(stash_fault(program) != "");
                place.bytes -= 64;
                break;
            }
        CHECK(stash_fault(program) == "");
    }
    CHECK(tables >= 10);
}
