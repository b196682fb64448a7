// Which rank of the world stands at which place of the mesh changes no number.
#include "catch.hpp"
#include "laws/ranks.hpp"
#include "laws/tampered.hpp"
#include "plait/core/random.hpp"
#include "plait/train/recording.hpp"

#include <algorithm>
#include <numeric>

using namespace plait;
using namespace tests;

namespace {

Subject divisible(Subject s, DType compute = f32) {
    s.name += ", four layers", s.compute = compute;
    s.config.vocab = 96, s.config.layers = 4, s.granularity = {8, 8, 4};
    return s;
}

/// An order in which rank 0 of the world stands at no first place.
std::vector<int> scrambled(int ranks, std::uint32_t seed) {
    std::vector<int> order(static_cast<std::size_t>(ranks));
    std::iota(order.begin(), order.end(), 0);
    Random const random{seed, 3, 0};
    for (auto i = order.size(); i-- > 1;) {
        auto const other = static_cast<std::size_t>(random.uniform(i) * static_cast<double>(i + 1));
        std::swap(order[i], order[std::min(other, i)]);
    }
    if (order[0] == 0) std::swap(order[0], order.back());
    return order;
}

std::vector<std::pair<Subject, Arrangement>> cases() {
    return {
        {divisible(llama()), {.data = 2, .micro = 2, .zero = 3, .tensor = 2, .sequence = true}},
        {divisible(grouped_llama(), bf16), {.data = 2, .tensor = 2, .pipeline = 2}},
        {divisible(gpt2()), {.replica = 2, .data = 2, .zero = 2, .tensor = 2, .sequence = true}},
        {divisible(untied_llama()),
         {.data = 2,
          .micro = 4,
          .zero = 1,
          .tensor = 1,
          .pipeline = 2,
          .schedule = "zb-v",
          .virtual_stages = 2}},
        {divisible(dropping_gpt2()), {.data = 4, .zero = 3, .recompute = true, .tensor = 1}},
    };
}

bool has_bits_of_one_rank(Subject const& s, Arrangement const& a, Broken const& broken = {}) {
    auto const& want = wanted(s, Bits::layout, true);
    auto const all = outcomes(s, a, 3, broken);
    return std::all_of(all.begin(), all.end(), [&](auto const& o) { return o == want; });
}

/// Orders the ranks of an axis by their numbers in the world, not by their coordinates.
class Unkeyed : public Tampered {
  public:
    explicit Unkeyed(Communicator& real) : Tampered(real, honest) {}
    std::unique_ptr<Communicator> split(int color, int, std::string name) override {
        return Tampered::split(color, 0, std::move(name));
    }
};

/// What a run on four ranks records: two steps, all marked values and variables.
std::vector<RecordedValue> recorded(std::vector<int> const& order) {
    auto const s = divisible(llama());
    Arrangement const a{.data = 2, .zero = 1, .tensor = 2, .sequence = true, .order = order};
    std::vector<RecordedValue> values;
    run_ranks(4, [&](Communicator& world) {
        auto const plan = a.plan(Mesh(world, a.sizes(), order), s).watch("**");
        auto t = training(s.family, s.config, plan, cpu_backend(1), s.batch, s.seq);
        for (int i = 0; i < 2; ++i) {
            auto const row = t();
            for (auto& v : recorded_values(world, *t.step, row, false)) values.push_back(std::move(v));
        }
    });
    return values;
}

}  // namespace

TEST_CASE("under bits = layout every order of ranks has the bits of one rank") {
    int layouts = 0;
    for (auto [s, a] : cases())
        for (std::uint32_t seed : {1u, 2u}) {
            a.order = scrambled(a.ranks(), seed);
            REQUIRE(a.order[0] != 0);
            INFO(text_of(s, a));
            CHECK(has_bits_of_one_rank(s, a));
            ++layouts;
        }
    fmt::print("{} layouts in scrambled order have the bits of one rank\n", layouts);
}

TEST_CASE("ranks of an axis that are not in the order of their coordinates are noticed") {
    Broken const unkeyed{.world = [](Communicator& real) { return std::make_unique<Unkeyed>(real); }};
    auto [s, a] = cases().back();
    CHECK(has_bits_of_one_rank(s, a, unkeyed));
    a.order = {3, 2, 1, 0};
    bool noticed = false;
    try {
        noticed = !has_bits_of_one_rank(s, a, unkeyed);
    } catch (Error const& e) {
        noticed = std::string_view(e.what()).find("should hold the same values") != std::string_view::npos;
    }
    CHECK(noticed);
    CHECK(has_bits_of_one_rank(s, a));
}

TEST_CASE("a recording knows which rank of the world had which block") {
    std::vector<int> const order{2, 0, 3, 1};
    auto const plain = recorded({}), moved = recorded(order);
    REQUIRE(plain.size() == moved.size());
    int divided = 0, results = 0;
    for (std::size_t i = 0; i < plain.size(); ++i) {
        auto const &a = plain[i], &b = moved[i];
        INFO(a.name);
        CHECK(a.hash == b.hash);
        CHECK(b.odd_rank == -1);
        REQUIRE(a.origins.size() == b.origins.size());
        if (a.origins.empty()) continue;
        REQUIRE(a.origins.size() == 4);
        for (std::size_t place = 0; place < 4; ++place)
            CHECK(b.origins[static_cast<std::size_t>(order[place])] == a.origins[place]);
        ++divided, results += a.kind == RecordedValue::Kind::result;
    }
    CHECK(results > 2);
    CHECK(divided > results);
}
