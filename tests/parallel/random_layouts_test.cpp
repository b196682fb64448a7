#include "catch.hpp"
#include "plait/comm/threads.hpp"
#include "plait/core/random.hpp"
#include "plait/plait.hpp"

#include <algorithm>
#include <cmath>

using namespace plait;

// Random small graphs, laid out at random, against one rank.
namespace {

/// Random choices, the same on every rank.
struct Dice {
    std::uint64_t seed, n = 0;
    int operator()(int sides) {
        return static_cast<int>(Random{seed}.word(n++) % static_cast<std::uint32_t>(sides));
    }
};

constexpr std::int64_t batch = 8, seq = 4, dim = 12;

/// The parameters of one graph, and how a step computes from them.
struct Net {
    std::vector<std::shared_ptr<Variable>> all;
    std::uint64_t seed;

    explicit Net(std::uint64_t s) : seed(s) {
        for (int i = 0; i < 4; ++i) {
            auto path = "p" + std::to_string(i);
            all.push_back(make_variable({f32, {dim, dim}}, Init::normal(0.3), VariableKind::parameter,
                                        path + ".weight"));
            all.push_back(make_variable({f32, {dim}}, Init::ones(), VariableKind::parameter, path + ".gain"));
        }
    }

    Row operator()(Batch const& b) const {
        Dice dice{seed};
        std::vector<Tensor> x{b["x"]};
        auto pick = [&] { return x[static_cast<std::size_t>(dice(static_cast<int>(x.size())))]; };
        for (int i = 0; i < 4; ++i) {
            auto w = read(*all[static_cast<std::size_t>(2 * i)]),
                 gain = read(*all[static_cast<std::size_t>(2 * i + 1)]);
            Scope scope("p" + std::to_string(i), true);
            Tensor y = pick();
            switch (dice(6)) {
                case 0:
                    y = linear(y, w);
                    break;
                case 1:
                    y = linear(y, w, gain);
                    break;
                case 2:
                    y = rms_norm(y, gain) + linear(y, w);
                    break;
                case 3:
                    y = y * gain + pick();
                    break;
                case 4:
                    y = cast(cast(linear(y, w), f64), f32);
                    break;
                default:
                    y = silu(linear(y, w)) * gain;
                    break;
            }
            y = y + linear(y, w, gain) * 0.1;  // every line names something
            mark_output(y.value());
            if (int d = dice(6); d < 3) y = y - apply_one(Expand{{d}}, {mean(y, {d}), y});
            x.push_back(y);
        }
        Tensor last = x.back();
        std::vector<int> dims;
        for (int d = 0; d < 3; ++d)
            if (dice(2)) dims.push_back(d);
        Tensor loss = mean(square(sum(last, dims) * 0.1)) + mean(square(silu(last) + 0.5));
        for (auto const& y : x) loss = loss + mean(square(silu(y) + 0.5));
        Tensors parameters;
        for (auto const& v : all) parameters.push_back(read(*v));
        auto g = gradients(loss, parameters);
        for (std::size_t i = 0; i < all.size(); ++i)
            if (g[i]) {
                mark(gradient_name(*all[i]), g[i].value());
                assign(*all[i], parameters[i] - g[i] * 0.05);
            }
        return {{"loss", loss}, {"last", last}};
    }
    static std::string gradient_name(Variable const& v) { return v.path + ".gradient"; }
};

struct Drawn {
    MeshSizes sizes;
    std::vector<std::string> lines;

    explicit Drawn(std::uint64_t seed) {
        Dice dice{seed + 1000};
        constexpr std::array<std::array<int, 3>, 6> all{
            {{2, 1, 1}, {1, 2, 1}, {1, 1, 2}, {1, 2, 2}, {2, 1, 2}, {1, 4, 1}}};
        auto const& m = all[static_cast<std::size_t>(dice(6))];
        sizes = {{"replica", m[0]}, {"data", m[1]}, {"tensor", m[2]}};
        constexpr std::string_view axes[] = {"replica", "data", "tensor"};
        for (int i = 0; i < 4; ++i)
            for (auto axis : axes) {
                if (dice(2))
                    lines.push_back(fmt::format("store p{}.weight {} {} of parameter", i, axis, dice(2)));
                if (dice(2))
                    lines.push_back(fmt::format("store p{}.weight {} {} of gradient", i, axis, dice(2)));
                if (dice(3) == 0 && axis == "tensor")
                    lines.push_back(fmt::format("store p{}.out {} {} of activation", i, axis, 1 + dice(2)));
            }
    }
    int ranks() const {
        int n = 1;
        for (auto const& [name, size] : sizes) n *= size;
        return n;
    }
    std::string text() const {
        std::string all;
        for (auto const& [name, size] : sizes) all += fmt::format("{}={} ", name, size);
        for (auto const& l : lines) all += "; " + l;
        return all;
    }
};

/// Results of three steps, the last one's `last` whole.
std::vector<double> results(std::uint64_t seed, Mesh const& mesh, std::vector<std::string> const& lines,
                            std::int64_t micro) {
    Net net(seed);
    auto s = std::make_shared<State>(cpu_backend(1));
    s->add(net.all);
    Plan plan(mesh);
    for (auto const& l : lines) plan.line(l);
    plan.micro_batches(micro * mesh.axis("replica").size * mesh.axis("data").size);
    auto step = compile(plan, s, {{"x", {f32, {batch, seq, dim}}}}, net);
    Array x({f32, {batch, seq, dim}});
    for (std::int64_t i = 0; i < x.meta().elements(); ++i)
        x.values<float>()[static_cast<std::size_t>(i)] =
            Random{seed + 7}.normal(static_cast<std::uint64_t>(i));
    std::vector<double> all;
    for (int i = 0; i < 3; ++i) {
        auto row = step({{"x", x}});
        all.push_back(row[0].second.item());
        if (i == 2)
            for (std::int64_t k = 0; k < row[1].second.meta().elements(); k += 5)
                all.push_back(row[1].second.at(k));
    }
    return all;
}

double distance(std::vector<double> const& a, std::vector<double> const& b) {
    double far = 0, big = 1e-6;
    for (std::size_t i = 0; i < a.size(); ++i) {
        far = std::max(far, std::isnan(a[i]) ? 1e30 : std::abs(a[i] - b[i]));
        big = std::max(big, std::abs(b[i]));
    }
    return a.size() == b.size() ? far / big : 1e30;
}

}  // namespace

TEST_CASE("random graphs on random layouts give what one rank gives") {
    int seen = 0, lines = 0, learned = 0;
    for (std::uint64_t seed = 1; seed <= 60; ++seed) {
        Drawn layout(seed);
        INFO("seed " << seed << ": " << layout.text());
        auto want = results(seed, Mesh(), {}, 1);
        learned += want[0] != want[1];
        std::vector<std::vector<double>> got(static_cast<std::size_t>(layout.ranks()));
        std::string refused;
        try {
            run_ranks(layout.ranks(), [&](Communicator& world) {
                got[static_cast<std::size_t>(world.rank())] = results(
                    seed, Mesh(world, layout.sizes), layout.lines, 1 + static_cast<std::int64_t>(seed % 2));
            });
        } catch (UsageError const& e) {
            refused = e.what();
        }
        // A line may name what this graph lacks, or two lines one dim that both do not divide.
        if (!refused.empty()) {
            INFO(refused);
            CHECK((refused.find("names nothing") != std::string::npos ||
                   refused.find("does not divide") != std::string::npos));
            continue;
        }
        for (auto const& g : got) CHECK(distance(g, want) < 1e-4);
        ++seen, lines += static_cast<int>(layout.lines.size());
    }
    CHECK(seen > 30);
    CHECK(learned > 55);
    CHECK(lines > 200);
}
