// What the law of layout_test.cpp must notice: programs, communicators and rules that are broken on purpose.
#include "catch.hpp"
#include "laws/ranks.hpp"
#include "laws/tampered.hpp"
#include "plait/graph/pass.hpp"

#include <algorithm>

using namespace plait;
using namespace tests;

namespace {

Subject in_bf16(Subject s) { return s.compute = bf16, s; }

/// A product whose rule hides that its bits depend on its shape.
struct Loose {
    static constexpr std::string_view name = "loose";
    Product op{};
    std::string text{};
    using fields = Fields<&Loose::text>;

    Metas infer(Metas const& in) const { return op.infer(in); }
    Rule rule(Metas const& in) const {
        auto r = op.rule(in);
        r.by_shape = false;
        return r;
    }
};

/// A product that adds up in an order of its own for every number of rows, as libraries do where shapes are
/// large: in blocks of the contracted dim. f32 only.
void call_fickle(KernelCall const& call) {
    auto const* loose = call.op->as<Loose>();
    auto const& op = loose ? loose->op : call.attributes<Product>();
    auto const& y = call.out[0].meta.shape;
    check(call.in[0].meta.dtype == f32 && call.out[0].meta.dtype == f32, "the fickle product is of f32");
    for (int t = 0; t < op.terms; ++t) {
        auto const &a = call.in[static_cast<std::size_t>(2 * t)],
                   &b = call.in[static_cast<std::size_t>(2 * t + 1)];
        bool tn = op.form == ProductForm::tn;
        auto columns = y.back(), rows = y.elements() / columns;
        auto depth = tn ? a.meta.shape.elements() / rows : a.meta.shape.back();
        auto block = 5 + rows % 11;
        for (std::int64_t i = 0; i < rows; ++i)
            for (std::int64_t j = 0; j < columns; ++j) {
                float sum = 0;
                for (std::int64_t begin = 0; begin < depth; begin += block) {
                    float part = 0;
                    for (auto k = begin; k < std::min(begin + block, depth); ++k)
                        part += a.as<float>()[tn ? k * rows + i : i * depth + k] *
                                b.as<float>()[op.form == ProductForm::nt ? j * depth + k : k * columns + j];
                    sum += part;
                }
                auto& to = call.out[0].as<float>()[i * columns + j];
                to = t ? to + sum : sum;
            }
    }
}

/// The CPU, with that product.
struct Fickle : Backend {
    std::shared_ptr<Backend> cpu = cpu_backend(1);
    std::vector<KernelRow> rows{{Product::name, call_fickle}, {Loose::name, call_fickle}};

    Fickle() {
        for (auto const& row : cpu->kernels())
            if (row.op != Product::name) rows.push_back(row);
    }
    std::string_view name() const override { return "fickle"; }
    KernelTable kernels() const override { return rows; }
    std::shared_ptr<std::byte[]> allocate(std::int64_t bytes) override { return cpu->allocate(bytes); }
    void write(std::byte* to, std::span<std::byte const> from) override { cpu->write(to, from); }
    void read(std::span<std::byte> to, std::byte const* from) override { cpu->read(to, from); }
    void call(KernelRow const& row, KernelCall& call) override { cpu->call(row, call); }
};

/// Every product in its loose form.
Graph loosened(Graph const& graph) {
    return rewrite(graph, [](Node const& n, Rewriter& r) -> std::vector<Value> {
        auto const* product = n.op.as<Product>();
        if (!product) return {};
        return values_of(record(Loose{*product, n.op.text()}, r.mapped(n.inputs)));
    });
}

/// The gradients of one weight on leaves `a` and `b` read each other's rows.
void swap_leaves(Program& program, std::size_t a, std::size_t b) {
    std::vector<Instruction*> leaves;
    for (auto& i : program.instructions) {
        auto const* p = i.op.as<Product>();
        if (!p || p->form != ProductForm::tn || i.origin.path != "blocks.0.mlp.gate") continue;
        leaves.push_back(&i);
    }
    check(leaves.size() == 8, "there are {} leaves", leaves.size());
    std::swap(leaves[a]->in, leaves[b]->in);
}

}  // namespace

TEST_CASE("a rank's gradient that one sum lacks changes the hash") {
    for (int zero : {0, 1, 2, 3})
        for (auto const& s : {llama(), in_bf16(gpt2())}) {
            Arrangement a{.data = 2, .zero = zero};
            INFO(text_of(s, a));
            CHECK(law_holds(s, a, {.world = tampered([] { return Tampered::Does(honest); })}));
            CHECK(!law_holds(s, a, {.world = tampered(leaves_one_out)}));
        }
}

TEST_CASE("two ranks that change places in one sum change the hash") {
    for (int zero : {0, 1, 2, 3}) {
        Arrangement a{.data = 4, .zero = zero};
        CAPTURE(zero);
        CHECK(!law_holds(llama(), a, {.world = tampered(swaps_two)}));
    }
}

TEST_CASE("two leaves of a product that change places change the hash") {
    Arrangement one;
    CHECK(!law_holds(llama(), one, {.program = [](Program& p) { swap_leaves(p, 1, 2); }}));
    // Of two addends the order is free.
    CHECK(law_holds(llama(), one, {.program = [](Program& p) { swap_leaves(p, 0, 1); }}));
}

TEST_CASE("a gather that serves the step before changes the hash") {
    for (int zero : {1, 2, 3}) {
        Arrangement a{.data = 2, .zero = zero};
        CAPTURE(zero);
        CHECK(!law_holds(llama(), a, {.world = tampered(gathers_stale)}));
    }
}

TEST_CASE("products whose bits depend on their shape keep them in leaves, and only there") {
    auto s = untied_llama();  // logits are a product
    auto bits = [&](std::int64_t micro, bool cut) {
        Broken broken{.backend = std::make_shared<Fickle>()};
        if (!cut) broken.graph = loosened;
        return outcomes(s, {.micro = micro}, 2, broken).front();
    };
    auto want = bits(1, true);
    for (int micro : {2, 4, 8}) {
        CAPTURE(micro);
        CHECK(bits(micro, true) == want);
        CHECK(!(bits(micro, false) == bits(1, false)));
    }
}

TEST_CASE("products so large that libraries cut them keep their bits") {
    auto s = llama("wide llama");
    s.config.dim = 384, s.config.hidden = 800, s.config.layers = 1, s.config.tied = false;
    s.config.loss_chunk = 0;
    for (Arrangement a :
         {Arrangement{.micro = 2}, {.micro = 4}, {.data = 2, .zero = 3}, {.data = 4, .zero = 1}})
        CHECK(law_holds(s, a));
}

TEST_CASE("a reduction that is wider than it need be leaves the hash as it is") {
    Arrangement a{.data = 4, .zero = 2};
    CHECK(law_holds(llama(), a, {.world = tampered(reduces_all)}));
}
