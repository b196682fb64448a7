#include "catch.hpp"
#include "laws/training.hpp"

#include <algorithm>

using namespace plait;

namespace {

using Place = Program::Place;

std::vector<tests::Training> trainings() {
    std::vector<tests::Training> all;
    models::Config c;
    c.dim = 32, c.layers = 2, c.heads = 4, c.kv_heads = 2, c.hidden = 64, c.vocab = 96, c.seq = 16;
    for (std::string family : {"llama", "gpt2"})
        for (int micro : {1, 4}) {
            Plan plan;
            plan.micro_batches(micro).recompute("blocks.*");
            all.push_back(tests::training(family, c, plan, cpu_backend(1), 8, 16));
        }
    return all;
}

/// How many pairs are in use at one time and share bytes.
int overlaps(std::vector<Place> const& places) {
    int n = 0;
    for (auto a = places.begin(); a != places.end(); ++a)
        for (auto b = a + 1; b != places.end(); ++b) {
            bool const time = a->first <= b->last && b->first <= a->last;
            bool const space = a->offset < b->offset + b->bytes && b->offset < a->offset + a->bytes;
            n += a->region == b->region && time && space;
        }
    return n;
}

bool holds(std::vector<Place> const& places, int instruction, Region region, std::int64_t offset,
           std::int64_t bytes) {
    return std::any_of(places.begin(), places.end(), [&](Place const& p) {
        return p.region == region && p.first <= instruction && instruction <= p.last && p.offset <= offset &&
               offset + bytes <= p.offset + p.bytes;
    });
}

/// Operands and workspaces that lie in no place that is in use at their instruction.
int homeless(Program const& program, std::vector<Place> const& places) {
    int n = 0;
    for (std::size_t i = 0; i < program.instructions.size(); ++i) {
        auto const& instruction = program.instructions[i];
        auto const at = static_cast<int>(i);
        for (auto const* list : {&instruction.in, &instruction.out})
            for (auto const& o : *list)
                n += o.meta.bytes() > 0 && !holds(places, at, o.region, o.offset, o.meta.bytes());
        n += instruction.workspace_bytes > 0 &&
             !holds(places, at, Region::scratch, instruction.workspace, instruction.workspace_bytes);
    }
    return n;
}

}  // namespace

TEST_CASE("a program's places hold its operands and never meet") {
    for (auto const& t : trainings()) {
        auto const& program = t.step->program();
        auto const& places = program.places;
        CHECK(overlaps(places) == 0);
        CHECK(homeless(program, places) == 0);
        std::int64_t state = 0, top = 0;
        std::vector<std::int64_t MemoryTable::*> kinds;
        for (auto const& p : places) {
            CHECK_FALSE(p.name.empty());
            CHECK(p.last < static_cast<int>(program.instructions.size()));
            REQUIRE(p.kind != nullptr);
            if (std::find(kinds.begin(), kinds.end(), p.kind) == kinds.end()) kinds.push_back(p.kind);
            if (p.region == Region::state) state += (p.bytes + 63) / 64 * 64;
            else top = std::max(top, p.offset + p.bytes);
        }
        CHECK(state == t.state->bytes());
        CHECK((top + 63) / 64 * 64 == program.scratch_bytes);
        CHECK(kinds.size() >= 5);
    }
}

TEST_CASE("places that meet, or are given up too early, are found") {
    for (auto const& t : trainings()) {
        auto const& program = t.step->program();
        auto low = program.places, early = low;
        for (auto& p : low)
            if (p.region == Region::scratch) p.offset /= 2;
        CHECK(overlaps(low) > 0);
        for (auto& p : early)
            if (p.first < p.last && p.region == Region::scratch) --p.last;
        CHECK(homeless(program, early) > 0);
    }
}
