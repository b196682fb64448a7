// What a rank holds: the plan of its arena, and the places in it while collectives are on their way.
#include "catch.hpp"
#include "laws/cover.hpp"
#include "laws/place_law.hpp"
#include "laws/ranks.hpp"

using namespace plait;
using namespace tests;

namespace {

struct Case {
    Subject subject;
    Arrangement arrangement;
    int rank = 0;

    Mesh mesh() const { return Mesh(arrangement.sizes(), rank); }
    std::string text() const {
        return text_of(subject, arrangement) +
               fmt::format(", rank {}{}", rank, arrangement.bits == Bits::fast ? ", fast" : "");
    }
};

/// Pairwise over model, compute, mesh, micro-batches, zero, recompute, bits, rank, sequence.
std::vector<Case> cases() {
    struct Mesh3 {
        int replica, data, tensor;
    };
    constexpr Mesh3 meshes[] = {{1, 1, 0}, {1, 2, 0}, {2, 2, 0}, {1, 4, 0}, {1, 1, 2}, {1, 1, 4}, {1, 2, 2}};
    constexpr int micros[] = {1, 2, 4};
    auto const rows = all_choices({5, 2, 7, 3, 4, 2, 2, 2, 2}, [&](Choices const& c) {
        auto const& m = meshes[c[2]];
        auto const ranks = m.replica * m.data * std::max(m.tensor, 1);
        return (m.replica * m.data < 4 || c[3] < 2) && (ranks > 1 || !c[7]) && (m.tensor || !c[8]);
    });
    std::vector<Case> all;
    for (auto const& row : pairwise(rows)) {
        auto at = [&](std::size_t i) { return static_cast<std::size_t>(row[i]); };
        Case c{subjects()[at(0)], {}};
        c.subject.compute = row[1] ? bf16 : f32;
        auto const& m = meshes[at(2)];
        c.arrangement = {.replica = m.replica,
                         .data = m.data,
                         .micro = micros[at(3)],
                         .zero = row[4],
                         .recompute = row[5] == 1,
                         .bits = row[6] ? Bits::layout : Bits::fast,
                         .tensor = m.tensor,
                         .sequence = row[8] == 1};
        // What an axis of 4 divides, in leaves too.
        if (m.tensor)
            c.subject.config.vocab = 96, c.subject.config.kv_heads = 4, c.subject.granularity.tensor = 4;
        c.rank = row[7] ? c.arrangement.ranks() - 1 : 0;
        all.push_back(std::move(c));
    }
    return all;
}

Training compiled(Case const& c) { return training_on(c.mesh(), c.subject, c.arrangement); }

/// Where a collective begins, and where it is awaited.
std::vector<std::pair<std::size_t, std::size_t>> flights(Program const& p) {
    std::vector<std::pair<std::size_t, std::size_t>> found;
    for (std::size_t i = 0; i < p.instructions.size(); ++i) {
        if (!p.instructions[i].collective) continue;
        for (std::size_t k = i; k < p.instructions.size(); ++k)
            if (p.instructions[k].awaits == p.instructions[i].collective->number) found.emplace_back(i, k);
    }
    return found;
}

}  // namespace

TEST_CASE("no value of a rank is overwritten before its last read") {
    auto all = cases();
    int collectives = 0;
    for (auto const& c : all) {
        INFO(c.text());
        PlaceLaw law(compiled(c));
        CHECK(law.faults_of(law.program()) == "");
        CHECK(static_cast<int>(flights(law.program()).size()) == law.program().collectives);
        collectives += law.program().collectives;
    }
    CHECK(collectives > 500);
    fmt::print("{} programs of ranks, {} collectives\n", all.size(), collectives);
}

TEST_CASE("what is written where a collective is on its way is found") {
    int inputs = 0, outputs = 0, waits = 0;
    for (auto const& c : cases()) {
        if (c.arrangement.data == 1) continue;
        INFO(c.text());
        PlaceLaw law(compiled(c));
        Program program = law.program();
        for (auto [begin, end] : flights(program)) {
            auto& collective = program.instructions[begin];
            if (begin % 3 == 0) {
                // Never awaited.
                auto number = std::exchange(program.instructions[end].awaits, program.collectives);
                CHECK(law.faults_of(program) != "");
                program.instructions[end].awaits = number;
                ++waits;
            }
            for (auto k = begin + 1; k < end; ++k) {
                auto& between = program.instructions[k];
                if (between.collective || between.awaits >= 0 || between.out.empty() || (k % 4)) continue;
                for (auto const* used : {&collective.in[0], &collective.out[0]}) {
                    auto old = between.out[0];
                    between.out[0].region = used->region, between.out[0].offset = used->offset;
                    between.out[0].micro_stride = used->micro_stride;
                    CHECK(law.faults_of(program) != "");
                    between.out[0] = old;
                    ++(used == &collective.in[0] ? inputs : outputs);
                }
            }
        }
        CHECK(law.faults_of(program) == "");
        if (inputs > 20 && outputs > 20 && waits > 20) break;
    }
    CHECK(inputs > 20);
    CHECK(outputs > 20);
    CHECK(waits > 20);
}

TEST_CASE("a rank holds one part of what is stored divided") {
    for (auto s : {llama(), grouped_llama()})
        for (int data : {2, 4, 8}) {
            auto table = [&](int zero) {
                Arrangement a{.data = data, .micro = 1, .zero = zero, .bits = Bits::fast};
                return compiled({s, a, data - 1}).step->memory();
            };
            auto whole = table(0);
            for (int zero : {1, 2, 3}) {
                CAPTURE(s.name, data, zero);
                auto t = table(zero);
                // Blocks begin at 64 bytes.
                auto variables = compiled({s, {}}).state->variables();
                std::int64_t blocks = 0;
                for (auto const& v : variables) blocks += v->kind == VariableKind::parameter;
                auto part = [&](std::int64_t bytes, std::int64_t n) {
                    return bytes / data <= n && n < bytes / data + 64 * blocks;
                };
                CHECK(part(whole.optimizer / 2, t.optimizer / 2));
                CHECK((zero == 3 ? part(whole.weights, t.weights) : t.weights == whole.weights));
            }
        }
    // To the byte where every block is a multiple of 64.
    auto s = llama();
    s.config.dim = 64, s.config.hidden = 128, s.config.vocab = 128;
    for (int zero : {0, 1, 2, 3}) {
        CAPTURE(zero);
        auto t = compiled({s, {.data = 4, .zero = zero, .bits = Bits::fast}}).step->memory();
        auto one = compiled({s, {.bits = Bits::fast}}).step->memory();
        CHECK(t.optimizer == one.optimizer / (zero ? 4 : 1));
        CHECK(t.weights == one.weights / (zero == 3 ? 4 : 1));
        CHECK(t.other_state == one.other_state);
    }
}

TEST_CASE("a rank of the tensor axis holds its part of what the lines divide, and the rest whole") {
    for (auto s : {llama(), untied_llama(), gpt2()})
        for (int tensor : {2, 4}) {
            CAPTURE(s.name, tensor);
            // Every block is a multiple of 64 bytes.
            s.config.dim = 128, s.config.hidden = 256, s.config.vocab = 128;
            auto t = compiled({s, {.bits = Bits::fast, .tensor = tensor}});
            std::int64_t divided = 0, whole = 0;
            for (auto const& v : t.state->variables()) {
                if (v->kind != VariableKind::parameter) continue;
                auto const ends = [&](std::string_view with) { return v->path.ends_with(with); };
                // Norms, positions, and the biases of what is added up over the ranks.
                bool const all = v->path.find("norm") != std::string::npos || ends("positions.weight") ||
                                 ends(".o.bias") || ends(".down.bias");
                (all ? whole : divided) += v->meta.bytes();
            }
            auto const m = t.step->memory();
            CHECK(divided > 20 * whole);
            CHECK(m.weights == divided / tensor + whole);
            CHECK(m.optimizer == 2 * m.weights);
            // ZeRO divides each of these by the data axis too.
            auto zero = compiled({s, {.data = 2, .zero = 3, .bits = Bits::fast, .tensor = tensor}});
            CHECK(zero.step->memory().weights == m.weights / 2);
        }
}

TEST_CASE("with the sequence split a rank holds its part of the norms' activations") {
    // What the norms of the blocks leave for backward, of a rank.
    auto kept = [](Subject const& s, Arrangement const& a) {
        auto const t = compiled({s, a});
        std::int64_t bytes = 0;
        for (auto const& i : t.step->program().instructions) {
            bool const norm = i.op.name() == "rms_norm" || i.op.name() == "layer_norm";
            if (norm && i.origin.phase == Phase::forward)
                for (auto const& out : i.out) bytes += out.meta.bytes();
        }
        return std::pair(bytes, t.step->memory().activations);
    };
    for (auto s : {llama(), gpt2()})
        for (auto compute : {f32, bf16})
            for (int tensor : {2, 4}) {
                CAPTURE(s.name, name_of(compute), tensor);
                s.compute = compute;
                Arrangement a{.bits = Bits::fast, .tensor = tensor};
                auto const [whole, more] = kept(s, a);
                a.sequence = true;
                auto const [part, less] = kept(s, a);
                CHECK(part > 0);
                CHECK(part * tensor == whole);
                CHECK(less < more);
            }
}

TEST_CASE("gradients and weights of a rank leave scratch as zero grows") {
    auto s = llama();
    s.config.dim = 64, s.config.hidden = 256, s.config.vocab = 128, s.config.layers = 4, s.batch = 8;
    auto scratch = [&](int zero) {
        Arrangement a{.data = 8, .zero = zero, .bits = Bits::fast};
        return compiled({s, a}).step->memory().scratch();
    };
    CHECK(scratch(2) < scratch(0));
}

TEST_CASE("a rank takes what its plan says") {
    for (auto const& c : cases()) {
        if (c.rank) continue;
        INFO(c.text());
        std::vector<std::int64_t> taken(static_cast<std::size_t>(c.arrangement.ranks())), planned = taken,
                                                                                          held = taken;
        run_ranks(c.arrangement.ranks(), [&](Communicator& world) {
            auto r = static_cast<std::size_t>(world.rank());
            auto counting = std::make_shared<Counting>();
            Mesh mesh(world, c.arrangement.sizes());
            auto t = training_on(mesh, c.subject, c.arrangement, {.backend = counting});
            planned[r] = t.step->memory().total();
            t(), t();
            taken[r] = counting->taken;
            held[r] = t.state->bytes() + t.step->program().scratch_bytes;
        });
        CHECK(taken == planned);
        CHECK(taken == held);
    }
}
