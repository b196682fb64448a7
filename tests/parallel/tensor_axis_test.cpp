#include "catch.hpp"
#include "plait/comm/threads.hpp"
#include "plait/core/random.hpp"
#include "plait/graph/collective.hpp"
#include "plait/plait.hpp"

#include <cmath>

using namespace plait;

// Shard lines on the tensor axis: the first product cut along its columns, the second along its rows.
namespace {

struct Mlp {
    nn::Linear up{8, 12}, down{12, 8};
    using fields = Fields<&Mlp::up, &Mlp::down>;

    Tensor operator()(Tensor const& x) const { return down(silu(up(x))); }
};

Columns const columns{{"x", {f32, {4, 6, 8}}}};

struct Made {
    std::shared_ptr<Mlp> model = std::make_shared<Mlp>();
    std::shared_ptr<optim::AdamW> adam = std::make_shared<optim::AdamW>();
    std::shared_ptr<State> all = state(*model, *adam, cpu_backend(1));
    std::shared_ptr<Step> step;

    explicit Made(Plan const& plan) {
        step = std::make_shared<Step>(compile(plan, all, columns, [&](Batch const& b) -> Row {
            auto [loss, g] =
                value_and_gradients(*model, [&] { return mean(square((*model)(b["x"]) - 1.0)); });
            adam->update(*model, g);
            return {{"loss", loss}};
        }));
    }
};

std::vector<double> losses(Plan const& plan) {
    Made made(plan);
    Array x(columns[0].second);
    for (std::int64_t i = 0; i < x.meta().elements(); ++i)
        x.values<float>()[static_cast<std::size_t>(i)] = Random{5}.normal(static_cast<std::uint64_t>(i));
    std::vector<double> loss;
    for (int i = 0; i < 4; ++i) loss.push_back((*made.step)({{"x", x}})[0].second.item());
    return loss;
}

Plan halved(Mesh const& mesh) {
    return Plan(mesh).shard("up.weight", "tensor", 0).shard("down.weight", "tensor", 1);
}

int count(Step const& step, Verb verb, std::int64_t elements) {
    int n = 0;
    for (auto const& i : step.program().instructions)
        n += i.collective && i.collective->verb == verb && i.in[0].meta.elements() == elements;
    return n;
}

void check_near(std::vector<double> const& a, std::vector<double> const& b) {
    REQUIRE(a.size() == b.size());
    for (std::size_t i = 0; i < a.size(); ++i) CHECK(a[i] == Approx(b[i]).epsilon(1e-5));
}

std::vector<double> on_ranks(MeshSizes const& sizes, int ranks,
                             std::function<Plan(Mesh const&)> const& plan) {
    std::vector<double> first;
    run_ranks(ranks, [&](Communicator& world) {
        auto loss = losses(plan(Mesh(world, sizes)));
        if (world.rank() == 0) first = loss;
    });
    return first;
}

}  // namespace

TEST_CASE("columns, then rows: one sum of what comes out") {
    auto want = losses(Plan());
    CHECK(want.back() < want.front());
    for (int tensor : {2, 4}) {
        Made made(halved(Mesh({{"tensor", tensor}}, 1)));
        CHECK(made.step->program().collectives == 1);
        CHECK(count(*made.step, Verb::all_reduce, 4 * 6 * 8) == 1);
        for (auto const& v : made.all->variables())
            CHECK(made.all->block_of(*v).bytes() == v->meta.bytes() / tensor);
        check_near(on_ranks({{"tensor", tensor}}, tensor, halved), want);
    }
    check_near(on_ranks({{"tensor", 2}, {"data", 2}}, 4, [](Mesh const& m) { return halved(m).zero(3); }),
               want);
}

TEST_CASE("a stored activation is reduced to a block, and gathered where a product wants it") {
    auto plan = [](Mesh const& m) { return halved(m).store("down.out", "tensor", 1); };
    Made made(plan(Mesh({{"tensor", 2}}, 0)));
    CHECK(count(*made.step, Verb::reduce_scatter, 4 * 6 * 8) == 1);
    CHECK(count(*made.step, Verb::all_gather, 4 * 3 * 8) ==
          1);  // the gradient, for both products of backward
    CHECK(count(*made.step, Verb::all_reduce, 4 * 6 * 8) == 0);
    check_near(on_ranks({{"tensor", 2}}, 2, plan), losses(Plan()));
}

TEST_CASE("a program of a mesh without communicators says so when it runs") {
    CHECK_THROWS_WITH(losses(halved(Mesh({{"tensor", 2}}, 0))),
                      ContainsSubstring("the program's mesh has no ranks along tensor"));
}
