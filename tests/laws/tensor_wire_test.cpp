// What a step puts on the wire of the tensor axis, against the closed forms of Megatron's papers: Shoeybi et
// al., 2019, and, with the sequence split, Korthikanti et al., 2022.
#include "catch.hpp"
#include "laws/cover.hpp"
#include "laws/tampered.hpp"
#include "laws/wire.hpp"
#include "plait/graph/pass.hpp"

using namespace plait;
using namespace tests;

namespace {

/// What a rank sends along tensor.
struct Wire {
    Subject const& s;
    Arrangement const& a;
    std::int64_t rank;  // along tensor
    Bytes bytes{};

    std::int64_t tokens() const { return s.batch * s.seq / (a.blocks() * a.micro); }  // of a micro-batch
    std::int64_t stream() const { return tokens() * s.config.dim; }

    void add(Verb verb, DType dtype, std::int64_t n) { bytes[name_of_row("tensor", verb, dtype)] += n; }
    void all_reduce(DType dtype, std::int64_t elements, std::int64_t times = 1) {
        add(Verb::all_reduce, dtype, times * all_reduce_bytes(dtype, elements, a.tensor, rank));
    }
    void gather(DType dtype, std::int64_t whole, std::int64_t times) {
        add(Verb::all_gather, dtype, times * bytes_of(dtype, whole / a.tensor * (a.tensor - 1)));
    }
    void reduce_scatter(DType dtype, std::int64_t whole, std::int64_t times) {
        add(Verb::reduce_scatter, dtype, times * bytes_of(dtype, whole / a.tensor * (a.tensor - 1)));
    }
    /// Addends of the residual stream become whole, or the blocks that are stored of it.
    void sums(DType dtype, std::int64_t times) {
        a.sequence ? reduce_scatter(dtype, stream(), times) : all_reduce(dtype, stream(), times);
    }
    void gathers(std::int64_t times) {
        if (a.sequence) gather(s.compute, stream(), times);
    }

    /// Two sums and two gathers a pass. Backward gathers two cotangents, and again the two inputs that
    /// forward has dropped; made again, a block gathers both, and lacks what comes out of its last product.
    void blocks() {
        auto const layers = s.config.layers * a.micro;
        sums(s.compute, layers * (4 + a.recompute));
        gathers(layers * (2 + 4 + 2 * a.recompute));
    }
    /// The table is divided by vocabulary, and so are the logits.
    void ends() {
        sums(s.compute, a.micro);  // the rows of other ranks are zeros
        gathers(a.micro);          // the cotangent, for the table's gradient
        // In one pass, or forward and again backward.
        bool const at_once = s.config.loss_chunk > 0;
        gathers(a.micro * (at_once ? 1 : 2));
        sums(s.compute, a.micro);                // the cotangent
        all_reduce(f32, tokens(), 3 * a.micro);  // the largest logit, the sum of exponentials, the target's
    }
    /// What is whole on every rank has a gradient of the rank's part of the sequence.
    void gains(State const& state) {
        if (!a.sequence) return;
        for (auto const& v : state.variables()) {
            if (v->kind != VariableKind::parameter) continue;
            // Each rank has the rows of its part of the sequence.
            if (v->path == "positions.weight") gather(f32, s.seq * s.config.dim, 1);
            if (v->meta.shape.rank() != 1) continue;
            bool const norm = v->path.find("norm") != std::string::npos;
            if (!norm && !v->path.ends_with(".o.bias") && !v->path.ends_with(".down.bias")) continue;
            auto n = v->meta.elements();
            bool const stored = a.zero >= 1 && a.data > 1 && n % a.data == 0;
            all_reduce(f32, stored ? n / a.data : n, a.zero >= 2 && stored ? a.micro : 1);
        }
    }
    /// The largest gradient, and the words of the squares.
    void norm() {
        all_reduce(f32, 1);
        all_reduce(i64, 2);
    }
};

std::vector<Traffic> traffic(Subject const& s, Arrangement const& a, Broken const& broken = {}) {
    auto wanted = [&](Mesh const& mesh, State const& state) {
        Wire wire{s, a, mesh.axis("tensor").coordinate};
        wire.blocks();
        wire.ends();
        wire.gains(state);
        wire.norm();
        return wire.bytes;
    };
    return traffic_of(s, a, broken, wanted, "tensor");
}

/// Sizes that eight ranks divide.
std::vector<Subject> wide_subjects() {
    auto all = subjects();
    for (auto& s : all) {
        s.config.dim = 64, s.config.heads = 8, s.config.kv_heads = 8, s.config.hidden = 96;
        s.config.vocab = 96, s.granularity = {8, 8, 8};
        s.batch = 8, s.seq = 16;
    }
    all.erase(all.begin() + 2);  // its kv heads were what made it another
    all.back().config.seq = all.back().seq;
    return all;
}

/// A row: model, compute, mesh, micro-batches, zero, recompute, sequence, bits.
std::vector<Choices> table() {
    // Under bits = layout a norm of the divided stream gathers it, which is another form.
    return all_choices({4, 2, 6, 2, 4, 2, 2, 2}, [](Choices const& c) { return !c[6] || !c[7]; });
}

void check_law(std::vector<Choices> const& rows) {
    struct Ranks {
        int replica, data, tensor;
    };
    constexpr Ranks meshes[] = {{1, 1, 2}, {1, 1, 4}, {1, 1, 8}, {1, 2, 2}, {2, 1, 2}, {1, 2, 4}};
    for (auto const& row : rows) {
        auto at = [&](std::size_t i) { return static_cast<std::size_t>(row[i]); };
        auto s = wide_subjects()[at(0)];
        s.compute = row[1] ? bf16 : f32;
        auto const& m = meshes[at(2)];
        Arrangement const a{.replica = m.replica,
                            .data = m.data,
                            .micro = row[3] ? 2 : 1,
                            .zero = row[4],
                            .recompute = row[5] == 1,
                            .bits = row[7] ? Bits::layout : Bits::fast,
                            .tensor = m.tensor,
                            .sequence = row[6] == 1};
        auto const all = traffic(s, a);
        check_traffic(s, a, all);
        if (!traffic_holds(all)) return;
    }
    fmt::print("{} layouts of {} send along tensor what they should\n", rows.size(), table().size());
}

}  // namespace

TEST_CASE("a step sends along tensor what the closed forms say, by verb and dtype") {
    auto rows = pairwise(table());
    // What is made of the stream hangs on model, dtype and sequence together.
    for (auto const& c : all_choices({4, 2, 1, 1, 1, 1, 2, 1})) rows.push_back(c);
    check_law(rows);
}
TEST_CASE("a step of any layout sends along tensor what the closed forms say", "[slow]") {
    check_law(table());
}

TEST_CASE("an axis of one rank sends nothing") {
    for (bool sequence : {false, true}) {
        auto const s = wide_subjects().front();
        for (auto const& t : traffic(s, {.bits = Bits::fast, .tensor = 1, .sequence = sequence}))
            CHECK(t.sent.empty());
    }
}

TEST_CASE("a divided vocabulary keeps the loss in chunks; without chunks the logits are made once") {
    for (auto compute : {f32, bf16})
        for (auto bits : {Bits::fast, Bits::layout}) {
            auto s = wide_subjects().front();
            s.compute = compute, s.config.loss_chunk = 2, s.config.vocab = 112;
            auto const t = training_on(Mesh({{"tensor", 2}}, 0), s, {.bits = bits, .tensor = 2});
            std::map<std::string_view, int> ops;
            for (auto const& i : t.step->program().instructions) {
                ++ops[i.op.name()];
                // Nothing has a number for each token and word.
                for (auto const& o : i.out)
                    if (i.origin.phase != Phase::update && o.meta.shape.rank() == 3)
                        CHECK((o.meta.shape[2] != 56 && o.meta.shape[2] != 14));
            }
            CHECK(ops["linear_loss_blocks"] > 0);
            CHECK(ops["linear_loss_blocks"] == ops["linear_cross_entropy_gradient"]);
        }
    for (auto compute : {f32, bf16}) {
        auto s = wide_subjects().front();
        s.compute = compute, s.config.loss_chunk = 0;
        auto const t = training_on(Mesh({{"tensor", 2}}, 0), s, {.bits = Bits::fast, .tensor = 2});
        std::map<ProductForm, int> forms;
        for (auto const& i : t.step->program().instructions)
            if (auto const* p = i.op.as<Product>(); p && i.origin.path == "head") ++forms[p->form];
        CHECK(forms ==
              std::map<ProductForm, int>{{ProductForm::nt, 1}, {ProductForm::nn, 1}, {ProductForm::tn, 1}});
    }
}

TEST_CASE("what is wider than it need be is seen on the wire of tensor") {
    auto const s = wide_subjects().front();
    Arrangement const split{.bits = Bits::fast, .tensor = 4, .sequence = true};
    CHECK(traffic_holds(traffic(s, split, {.world = tampered([] { return Tampered::Does(honest); })})));
    CHECK(!traffic_holds(traffic(s, split, {.world = tampered(reduces_all)})));
    // Input gradients of products that are not folded: under bits = layout each is a sum of its own over
    // ranks.
    Arrangement const whole{.tensor = 4};
    auto unfolded = [](Graph const& graph) {
        return rewrite(graph, [](Node const& n, Rewriter& r) -> std::vector<Value> {
            auto const* product = n.op.as<Product>();
            if (!product || product->terms == 1) return {};
            auto const x = r.mapped(n.inputs);
            Tensor sum;
            for (std::size_t i = 0; i + 1 < x.size(); i += 2) {
                auto one = apply_one(Product{product->form, 1}, {Tensor(x[i]), Tensor(x[i + 1])});
                sum = sum ? sum + one : one;
            }
            return {sum.value()};
        });
    };
    CHECK(traffic_holds(traffic(s, whole)));
    CHECK(!traffic_holds(traffic(s, whole, {.graph = unfolded})));
}
