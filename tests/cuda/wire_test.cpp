#include "catch.hpp"
#include "laws/ranks.hpp"
#include "plait/cuda/device.hpp"

#include <map>
#include <string>

// A backend's own joined ops must not make a layout send more: laws/tensor_wire_test.cpp and its neighbours
// hold what the CPU's programs send to closed forms, and here a GPU's are held to the CPU's.
using namespace tests;

namespace {

/// Bytes that a rank brings to collectives in a step, by axis, verb and dtype.
std::map<std::string, std::int64_t> brought(Program const& program) {
    std::map<std::string, std::int64_t> bytes;
    for (auto const& visit : program.visits) {
        auto const& piece = program.pieces[static_cast<std::size_t>(visit.piece)];
        for (int n = piece.first; n < piece.last; ++n) {
            auto const& i = program.instructions[static_cast<std::size_t>(n)];
            if (!i.collective) continue;
            auto const& meta = i.in.empty() ? i.out[0].meta : i.in[0].meta;
            bytes[fmt::format("{} {} {}", i.collective->axis, name_of(i.collective->verb),
                              name_of(meta.dtype))] += meta.bytes();
        }
    }
    return bytes;
}

std::map<std::string, std::int64_t> brought(Subject const& s, Arrangement const& a, int rank,
                                            std::shared_ptr<Backend> backend) {
    auto const t = training_on(Mesh(a.sizes(), rank), s, a, {.backend = std::move(backend)});
    return brought(t.step->program());
}

}  // namespace

TEST_CASE("a GPU's program sends what the CPU's does, on every layout") {
    int seen = 0;
    for (std::string family : {"gpt2", "llama"})
        for (auto compute : {f32, bf16})
            for (auto bits : {Bits::fast, Bits::layout}) {
                auto s = family == "gpt2" ? gpt2() : llama();
                s.config.dim = 64, s.config.heads = s.config.kv_heads = 8, s.config.hidden = 96;
                s.config.vocab = 96, s.granularity = {8, 8, 8};
                s.batch = 8, s.seq = s.config.seq = 16;
                s.compute = compute;
                for (Arrangement a :
                     {Arrangement{.tensor = 2}, Arrangement{.tensor = 2, .sequence = true},
                      Arrangement{.micro = 2, .recompute = true, .tensor = 4, .sequence = true},
                      Arrangement{.data = 2, .zero = 3, .tensor = 2, .sequence = true},
                      Arrangement{.data = 2, .micro = 2, .zero = 2},
                      Arrangement{.micro = 2, .tensor = 2, .pipeline = 2},
                      Arrangement{.data = 2, .micro = 2, .zero = 1, .pipeline = 2}}) {
                    a.bits = bits;
                    for (int rank = 0; rank < a.ranks(); ++rank) {
                        INFO(text_of(s, a) << ", rank " << rank);
                        auto const cpu = brought(s, a, rank, cpu_backend(1)),
                                   gpu = brought(s, a, rank, cuda::planning_backend());
                        CHECK(!cpu.empty());
                        CHECK(gpu == cpu);
                        ++seen;
                    }
                }
            }
    CHECK(seen == 8 * 22);
}
