// What a step puts on the wire, against closed forms of the list of parameters.
#include "laws/wire.hpp"
#include "catch.hpp"
#include "laws/cover.hpp"
#include "laws/ranks.hpp"
#include "laws/tampered.hpp"

#include <algorithm>
#include <tuple>

using namespace plait;
using namespace tests;

namespace {

bool ends(std::string const& path, std::string_view with) { return path.ends_with(with); }

/// How a step reads a parameter.
struct Reading {
    Subject const& subject;
    std::string const& path;
    Shape const& shape;

    bool in_block() const { return path.starts_with("blocks."); }
    bool is_norm() const { return path.find("norm") != std::string::npos; }
    bool is_table() const { return path == "tokens.weight"; }
    bool is_head() const { return path == "head.weight" || (is_table() && subject.config.tied); }

    std::int64_t forward() const { return is_table() && is_head() ? 2 : 1; }
    /// Products want their weights again for the gradient of their input, norms their gain. Biases, tables
    /// and positions are not wanted; neither is the head where loss and gradients are made in one pass.
    std::int64_t backward() const {
        if (is_head()) return subject.config.loss_chunk ? 0 : 1;
        if (is_norm()) return ends(path, ".weight");
        return in_block() && ends(path, ".weight");
    }
    /// What backward needs of a block is made again; nobody needs what comes out of the last product.
    std::int64_t again() const { return in_block() && path.find(".down.") == std::string::npos; }
    DType dtype() const { return shape.rank() > 1 ? subject.compute : f32; }
};

/// What a rank sends in one step.
struct Wire {
    Subject const& s;
    Arrangement const& a;
    int replica = 0, data = 0;  // the rank's coordinates
    Bytes bytes{};

    void send(std::string_view axis, Verb verb, DType dtype, std::int64_t n) {
        bytes[name_of_row(axis, verb, dtype)] += n;
    }
    void all_reduce(std::string_view axis, DType dtype, std::int64_t elements) {
        std::int64_t ranks = axis == "data" ? a.data : a.replica, r = axis == "data" ? data : replica;
        if (ranks == 1) return;
        send(axis, Verb::all_reduce, dtype, all_reduce_bytes(dtype, elements, ranks, r));
    }
    void along_data(Verb verb, DType dtype, std::int64_t whole) {
        if (a.data > 1) send("data", verb, dtype, bytes_of(dtype, whole / a.data * (a.data - 1)));
    }

    void parameter(std::string const& path, Shape const& shape) {
        Reading reading{s, path, shape};
        auto n = shape.elements();
        bool divides = std::any_of(shape.begin(), shape.end(), [&](auto size) { return size % a.data == 0; });
        bool stored = a.zero >= 1 && divides, fast = a.bits == Bits::fast;
        // Canonical sums have one place: the table's two gradients are summed up before they are added.
        auto sums = reading.is_table() && reading.is_head() && !fast ? 2 : 1;
        // Of an axis of one rank only the bits of a layout know.
        auto times = a.zero >= 2 && divides && fast && a.data > 1 ? a.micro : sums;
        if (path == "positions.weight") {
            // Only the rows of the sequence have a gradient, which is summed up before others join it.
            times = 0;
            for (std::string_view axis : {"data", "replica"}) all_reduce(axis, f32, s.seq * s.config.dim);
        }
        for (int i = 0; i < times; ++i) {
            stored ? along_data(Verb::reduce_scatter, f32, n) : all_reduce("data", f32, n);
            all_reduce("replica", f32, stored ? n / a.data : n);
        }
        if (!stored) return;
        if (a.zero < 3) return along_data(Verb::all_gather, f32, n);
        auto reads = reading.forward() + reading.backward() + (a.recompute ? reading.again() : 0);
        auto gathers = reads * a.micro;
        if (path == "positions.weight") {
            // Rows are picked once, from all of them, or before each gather along the other dim.
            if (shape[0] % a.data) n = s.seq * s.config.dim;
            else gathers = 1;
        }
        for (int i = 0; i < gathers; ++i) along_data(Verb::all_gather, reading.dtype(), n);
    }

    /// The count of targets, the loss, and of divided gradients the largest and the words of their squares.
    void scalars() {
        for (std::string_view axis : {"replica", "data"}) {
            all_reduce(axis, i32, 1);
            all_reduce(axis, f32, 1);
        }
        if (a.zero == 0) return;
        all_reduce("data", f32, 1);
        all_reduce("data", i64, 2);
    }
};

/// What it should send, and sends, on every rank.
std::vector<Traffic> traffic(Subject const& s, Arrangement const& a, Broken const& broken = {}) {
    return traffic_of(s, a, broken, [&](Mesh const& mesh, State const& state) {
        Wire wire{s, a, mesh.axis("replica").coordinate, mesh.axis("data").coordinate};
        for (auto const& v : state.variables())
            if (v->kind == VariableKind::parameter) wire.parameter(v->path, v->meta.shape);
        wire.scalars();
        return wire.bytes;
    });
}

}  // namespace

namespace {

/// A row: model, compute, mesh, micro-batches, zero, recompute, bits.
std::vector<Choices> table() {
    return all_choices({5, 2, 7, 2, 4, 2, 2}, [](Choices const& c) { return c[2] < 5 || c[6] == 0; });
}

void check_table(std::vector<Choices> const& rows) {
    constexpr std::pair<int, int> meshes[] = {{1, 1}, {1, 2}, {2, 2}, {1, 4}, {2, 1}, {1, 3}, {3, 2}};
    for (auto const& row : rows) {
        auto at = [&](std::size_t i) { return static_cast<std::size_t>(row[i]); };
        auto s = subjects()[at(0)];
        s.compute = row[1] ? bf16 : f32;
        auto [replica, data] = meshes[at(2)];
        if (replica * data % 3 == 0) s.batch = 12;
        Arrangement const a{.replica = replica,
                            .data = data,
                            .micro = row[3] ? 2 : 1,
                            .zero = row[4],
                            .recompute = row[5] == 1,
                            .bits = row[6] ? Bits::layout : Bits::fast};
        auto const all = traffic(s, a);
        check_traffic(s, a, all);
        if (!traffic_holds(all)) return;
    }
    fmt::print("{} layouts of {} send what they should\n", rows.size(), table().size());
}

}  // namespace

TEST_CASE("a step sends what its layout says, by axis, verb and dtype") { check_table(pairwise(table())); }
TEST_CASE("a step of any layout sends what it says, by axis, verb and dtype", "[slow]") {
    check_table(table());
}

TEST_CASE("beside tensor a step sends along data what it would of the blocks of its rank") {
    // model, compute, replica, data, tensor, micro-batches, zero, recompute, sequence, which gpt2's positions
    // would make another form
    auto const rows = all_choices({4, 2, 2, 2, 2, 2, 4, 2, 2}, [](Choices const& c) {
        return (c[0] < 3 || !c[8]) && c[2] + c[3] + c[4] < 2;
    });
    auto const chosen = pairwise(rows);
    for (auto const& row : chosen) {
        auto s = subjects()[static_cast<std::size_t>(row[0])];
        s.config.vocab = 96, s.config.kv_heads = 4, s.config.hidden = 96;
        s.compute = row[1] ? bf16 : f32;
        Arrangement const a{.replica = 1 + row[2],
                            .data = row[3] ? 4 : 2,
                            .micro = 1 + row[5],
                            .zero = row[6],
                            .recompute = row[7] == 1,
                            .bits = Bits::fast,
                            .tensor = row[4] ? 4 : 2,
                            .sequence = row[8] == 1};
        auto const blocks =
            training_on(Mesh({{"tensor", a.tensor}}, 0), s, {.bits = Bits::fast, .tensor = a.tensor});
        std::map<std::string, Shape> shapes;
        for (auto const& v : blocks.state->variables())
            if (v->kind == VariableKind::parameter) shapes[v->path] = blocks.state->block_of(*v).shape;
        check_traffic(s, a,
                      traffic_of(
                          s, a, {},
                          [&](Mesh const& mesh, State const&) {
                              Wire wire{s, a, mesh.axis("replica").coordinate, mesh.axis("data").coordinate};
                              for (auto const& [path, shape] : shapes) wire.parameter(path, shape);
                              wire.scalars();
                              return wire.bytes;
                          },
                          "data"));
    }
    fmt::print("{} layouts of {} with tensor send along data what they should\n", chosen.size(), rows.size());
}

TEST_CASE("in sum: what each level of zero moves") {
    auto s = grouped_llama();
    s.config.tied = false;
    for (int data : {2, 4})
        for (int zero : {0, 1, 2, 3}) {
            Arrangement a{.data = data, .micro = 2, .zero = zero, .bits = Bits::fast};
            auto sent = traffic(s, a).front().sent;
            auto of = [&](Verb verb) { return sent[name_of_row("data", verb, f32)]; };
            std::int64_t parameters = 0;
            auto t = training_on(Mesh(), s, {.bits = Bits::fast});
            for (auto const& v : t.state->variables())
                if (v->kind == VariableKind::parameter) parameters += v->meta.shape.elements();
            auto once = 4 * parameters / data * (data - 1);
            CAPTURE(data, zero);
            // Beside the loss, and the largest gradient.
            CHECK(of(Verb::all_reduce) - (zero ? 0 : 2 * once) <= 2 * 4 * data);
            CHECK(of(Verb::reduce_scatter) == once * (zero == 0 ? 0 : zero == 1 ? 1 : 2));
            if (zero < 3) CHECK(of(Verb::all_gather) == (zero ? once : 0));
        }
}

TEST_CASE("an all-reduce where a reduce-scatter would do is seen on the wire") {
    for (int zero : {1, 2, 3}) {
        Arrangement a{.data = 2, .zero = zero};
        CAPTURE(zero);
        CHECK(traffic_holds(traffic(llama(), a, {.world = tampered([] { return Tampered::Does(honest); })})));
        CHECK(!traffic_holds(traffic(llama(), a, {.world = tampered(reduces_all)})));
    }
}
