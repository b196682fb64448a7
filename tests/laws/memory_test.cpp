#include "catch.hpp"
#include "laws/place_law.hpp"

#include <set>

using namespace plait;

namespace {

struct Case {
    std::string name, family;
    models::Config config;
    Plan plan;
};

std::vector<Case> cases() {
    std::vector<Case> all;
    for (std::string family : {"llama", "gpt2"})
        for (auto micro : {1, 2, 8})
            for (auto dtype : {f32, bf16})
                for (bool again : {false, true}) {
                    models::Config c;
                    c.dim = 32, c.layers = 2, c.heads = 4, c.kv_heads = 2, c.hidden = 64, c.vocab = 96,
                    c.seq = 16;
                    c.tied = again, c.dropout = family == "gpt2" ? 0.1 : 0,
                    c.loss_chunk = micro == 2 ? 0 : 24;
                    Plan plan;
                    plan.micro_batches(micro).compute(dtype);
                    if (again) plan.recompute("blocks.*");
                    auto name = fmt::format("{}, {} micro-batches, {}{}", family, micro, name_of(dtype),
                                            again ? ", recompute" : "");
                    all.push_back({name, family, c, plan});
                }
    return all;
}

tests::Training compiled(Case const& c, std::shared_ptr<Backend> backend = cpu_backend(2)) {
    return tests::training(c.family, c.config, c.plan, std::move(backend), 8, 16);
}

/// Every operand of the program's instructions that is read or written, with an index for each.
template <class F>
void each_operand(Program& p, F const& f) {
    for (auto& i : p.instructions) {
        Metas in;
        for (auto const& o : i.in) in.push_back(o.meta);
        auto skip = tests::unread(i.op, in);
        for (std::size_t k = 0; k < i.in.size(); ++k)
            if (!skip[k]) f(i, i.in[k], true);
        for (auto& o : i.out) f(i, o, false);
    }
}

}  // namespace

TEST_CASE("the arena is its plan exactly") {
    for (auto const& c : cases()) {
        INFO(c.name);
        auto counting = std::make_shared<tests::Counting>();
        auto t = compiled(c, counting);
        auto const& program = t.step->program();
        auto const& table = t.step->memory();
        CHECK(counting->taken == 0);
        t();
        t();
        CHECK(counting->taken == table.total());
        CHECK(table.total() == t.state->bytes() + program.scratch_bytes);
        CHECK(table.state() == t.state->bytes());
        CHECK(table.scratch() == program.scratch_bytes);
        for (auto rows : {table.weights, table.optimizer, table.gradients, table.activations, table.inputs})
            CHECK(rows > 0);
        CHECK(table.gaps >= 0);

        std::int64_t top = 0;
        auto reach = [&](Operand const& o, std::int64_t micro) {
            if (o.region == Region::scratch)
                top = std::max(top, o.offset + micro * o.micro_stride + o.meta.bytes());
        };
        auto copy = program;
        each_operand(copy, [&](Instruction&, Operand& o, bool) { reach(o, program.micro_batches - 1); });
        for (auto const& i : program.instructions) top = std::max(top, i.workspace + i.workspace_bytes);
        for (auto const* list : {&program.batch, &program.feeds, &program.constants})
            for (auto const& i : *list) reach(i.at, 0);
        CHECK((top + 63) / 64 * 64 == program.scratch_bytes);
    }
}

TEST_CASE("no value is overwritten before its last read") {
    for (auto const& c : cases()) {
        INFO(c.name);
        tests::PlaceLaw law(compiled(c));
        CHECK(law.faults_of(law.program()) == "");
    }
}

TEST_CASE("a tensor out of its place is found") {
    for (auto const& c : cases()) {
        if (c.plan.micro_batches() != 2) continue;
        INFO(c.name);
        tests::PlaceLaw law(compiled(c));
        Program program = law.program();
        int operands = 0, outputs = 0, missed_outputs = 0;
        each_operand(program, [&](Instruction& i, Operand& o, bool input) {
            if (++operands % 5) return;
            o.offset += 64;
            bool found = law.faults_of(program) != "";
            o.offset -= 64;
            if (!input) ++outputs, missed_outputs += !found;
            INFO(i.op.name());
            if (input) CHECK(found);
        });
        // Outputs that nobody reads may lie anywhere.
        CHECK(missed_outputs * 4 <= outputs);
        CHECK(law.faults_of(program) == "");
    }
}

TEST_CASE("two live tensors of one size in one place are found") {
    for (auto const& c : cases()) {
        if (c.plan.micro_batches() != 2) continue;
        INFO(c.name);
        tests::PlaceLaw law(compiled(c));
        Program const& program = law.program();
        std::set<std::pair<std::int64_t, std::int64_t>> pairs;
        for (auto const& i : program.instructions)
            for (auto const& a : i.in)
                for (auto const& b : i.in)
                    if (a.region == b.region && a.region == Region::scratch &&
                        a.meta.bytes() == b.meta.bytes() && a.micro_stride == b.micro_stride &&
                        a.offset < b.offset)
                        pairs.insert({a.offset, b.offset});
        CHECK(!pairs.empty());
        for (auto const& [a, b] : pairs) {
            Program broken = program;
            each_operand(broken, [&, to = a, from = b](Instruction&, Operand& o, bool) {
                if (o.region == Region::scratch && o.offset == from) o.offset = to;
            });
            CHECK(law.faults_of(broken) != "");
        }
    }
}

TEST_CASE("a workspace on a live tensor is found") {
    tests::PlaceLaw law(compiled(cases().front()));
    int tried = 0;
    Program program = law.program();
    for (auto& i : program.instructions)
        for (auto const* list : {&i.in, &i.out})
            for (auto const& o : *list) {
                if (!i.workspace_bytes || o.region != Region::scratch) continue;
                auto place = std::exchange(i.workspace, o.offset);
                CHECK(law.faults_of(program) != "");
                i.workspace = place;
                ++tried;
            }
    CHECK(tried > 0);
}
