#include "plait/data/loader.hpp"

#include "catch.hpp"
#include "scratch.hpp"

#include <algorithm>
#include <map>
#include <numeric>
#include <set>

using namespace plait;

namespace {

/// Text in which byte i tells i modulo 251.
std::vector<std::uint8_t> counting(std::int64_t size) {
    std::vector<std::uint8_t> text(static_cast<std::size_t>(size));
    for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<std::uint8_t>(i % 251);
    return text;
}

Loader loader(std::vector<std::uint8_t> const& text, std::int64_t batch, std::int64_t seq, std::uint64_t seed,
              Order order = Order::shuffled) {
    return Loader(text, {{0, static_cast<std::int64_t>(text.size())}}, batch, seq, seed, order);
}

}  // namespace

TEST_CASE("a split covers the text once") {
    for (std::int64_t size : {0, 1, 10, 1000, 400000, 5000001, 123456789})
        for (double fraction : {0.0, 0.05, 0.1, 0.5, 0.999}) {
            INFO(size << " " << fraction);
            auto s = split_text(size, fraction);
            Pieces all = s.train;
            all.insert(all.end(), s.validation.begin(), s.validation.end());
            std::sort(all.begin(), all.end(), [](Piece a, Piece b) { return a.begin < b.begin; });
            std::int64_t end = 0, held_out = 0;
            for (auto p : all) {
                CHECK(p.begin == end);
                CHECK(p.end > p.begin);
                end = p.end;
            }
            CHECK(end == size);
            for (auto p : s.validation) held_out += p.size();
            CHECK(std::abs(static_cast<double>(held_out) - fraction * static_cast<double>(size)) <= 16);
        }
    CHECK(split_text(100'000'000, 0.05).validation.size() == 16);
    CHECK(split_text(100'000, 0.05).validation == Pieces{{95'000, 100'000}});
    CHECK(contains(message_of<UsageError>([] { split_text(10, 1.0); }), "data.validation is 1"));
    CHECK_FALSE(message_of<UsageError>([] { split_text(10, -0.1); }).empty());
}

TEST_CASE("permuted is a bijection for every count and key") {
    for (std::int64_t count : {1, 2, 3, 4, 5, 7, 16, 17, 63, 64, 65, 1000, 4096, 4097})
        for (std::uint64_t key : {0ull, 1ull, ~0ull}) {
            std::vector<int> hits(static_cast<std::size_t>(count));
            for (std::int64_t i = 0; i < count; ++i) {
                auto p = permuted(i, count, key);
                REQUIRE((p >= 0 && p < count));
                ++hits[static_cast<std::size_t>(p)];
            }
            CHECK(std::all_of(hits.begin(), hits.end(), [](int h) { return h == 1; }));
        }
    CHECK(permuted(0, std::int64_t{1} << 62, 3) >= 0);
    CHECK_THROWS_AS(permuted(5, 5, 0), Error);
}

TEST_CASE("permuted looks random") {
    constexpr std::int64_t count = 1000;
    int fixed = 0, neighbours = 0, same = 0;
    double correlation = 0;
    for (std::int64_t i = 0; i < count; ++i) {
        auto p = permuted(i, count, 7);
        fixed += p == i;
        neighbours += i + 1 < count && permuted(i + 1, count, 7) == p + 1;
        same += p == permuted(i, count, 8);
        correlation += (static_cast<double>(i) - 499.5) * (static_cast<double>(p) - 499.5);
    }
    CHECK(fixed < 10);
    CHECK(neighbours < 10);
    CHECK(same < 10);
    CHECK(std::abs(correlation / (count * 83333.0)) < 0.1);
}

TEST_CASE("an epoch shows every window once, the next one in another order and at other offsets") {
    auto text = counting(10 * 16 + 5);
    auto l = loader(text, 1, 16, 3);
    REQUIRE(l.windows() == 9);
    std::set<std::int64_t> offsets;
    std::set<std::vector<std::int64_t>> orders;
    for (std::int64_t epoch = 0; epoch < 30; ++epoch) {
        std::vector<std::int64_t> begins;
        for (std::int64_t i = 0; i < 9; ++i) begins.push_back(l.window_begin(epoch * 9 + i));
        auto sorted = begins;
        std::sort(sorted.begin(), sorted.end());
        CHECK(sorted.front() >= 0);
        CHECK(sorted.back() + 17 <= static_cast<std::int64_t>(text.size()));
        for (std::size_t i = 1; i < sorted.size(); ++i) REQUIRE(sorted[i] - sorted[i - 1] == 16);
        offsets.insert(sorted.front());
        for (auto& b : begins) b = (b - sorted.front()) / 16;
        orders.insert(begins);
    }
    CHECK(offsets.size() > 10);
    CHECK(*offsets.rbegin() <= 20);
    CHECK(orders.size() == 30);
}

TEST_CASE("windows stay inside their pieces") {
    auto text = counting(5000);
    Pieces pieces{{0, 700}, {900, 920}, {1000, 1033}, {2000, 4999}};
    Loader l(text, pieces, 4, 32, 1);
    CHECK(l.windows() == 20 + 1 + 92);
    std::map<std::int64_t, int> used;
    for (std::int64_t i = 0; i < 20 * l.windows(); ++i) {
        auto begin = l.window_begin(i);
        auto in = std::find_if(pieces.begin(), pieces.end(),
                               [&](Piece p) { return begin >= p.begin && begin + 33 <= p.end; });
        REQUIRE(in != pieces.end());
        ++used[in->begin];
    }
    CHECK(used.size() == 3);
    CHECK(used[1000] == 20);
}

TEST_CASE("a batch is the same however its rows are divided, and targets follow tokens") {
    auto text = counting(20000);
    auto l = loader(text, 8, 24, 5);
    for (std::int64_t step : {0, 1, 17, 1000, 100000}) {
        std::vector<std::int32_t> tokens(8 * 24), targets(8 * 24), t(8 * 24), u(8 * 24);
        l.fill(step, 0, 8, tokens.data(), targets.data());
        for (std::int64_t ranks : {2, 4, 8})
            for (std::int64_t r = 0; r < ranks; ++r) {
                auto rows = 8 / ranks;
                l.fill(step, r * rows, (r + 1) * rows, t.data() + r * rows * 24, u.data() + r * rows * 24);
                if (r + 1 == ranks) CHECK((t == tokens && u == targets));
            }
        for (std::size_t i = 0; i < tokens.size(); ++i) REQUIRE(targets[i] == (tokens[i] + 1) % 251);
        for (std::size_t i = 0; i + 1 < 24; ++i) REQUIRE(tokens[i + 1] == targets[i]);
        auto other = loader(text, 8, 24, 6);
        other.fill(step, 0, 8, t.data(), u.data());
        CHECK(t != tokens);
    }
    CHECK_THROWS_AS(l.fill(0, 0, 9, nullptr, nullptr), Error);
}

TEST_CASE("samples do not depend on the batch size") {
    auto text = counting(20000);
    auto wide = loader(text, 8, 24, 5), narrow = loader(text, 2, 24, 5);
    std::vector<std::int32_t> a(8 * 24), b(8 * 24), targets(8 * 24);
    wide.fill(3, 0, 8, a.data(), targets.data());
    for (int i = 0; i < 4; ++i) narrow.fill(12 + i, 0, 2, b.data() + i * 48, targets.data());
    CHECK(a == b);
}

TEST_CASE("validation windows are the same for every seed and epoch") {
    auto text = counting(1000);
    auto a = loader(text, 4, 10, 1, Order::fixed), b = loader(text, 4, 10, 2, Order::fixed);
    REQUIRE(a.windows() == 99);
    std::set<std::int64_t> begins;
    for (std::int64_t i = 0; i < 99; ++i) {
        begins.insert(a.window_begin(i));
        REQUIRE(a.window_begin(i) == b.window_begin(i));
        REQUIRE(a.window_begin(i) == a.window_begin(i + 99));
        REQUIRE(a.window_begin(i) % 10 == 0);
    }
    CHECK(begins.size() == 99);
}

TEST_CASE("a sequence longer than the data names both and the fix") {
    auto text = counting(100);
    CHECK(loader(text, 1, 99, 0).windows() == 1);
    CHECK(loader(text, 1, 99, 0).window_begin(5) == 0);
    CHECK(message_of<UsageError>([&] { loader(text, 1, 100, 0); }) ==
          "data.seq = 100 needs 101 tokens in a row, but the longest piece of the training text has 100: set "
          "data.seq to "
          "at most 99 or give more text");
    CHECK(contains(message_of<UsageError>([&] { Loader(text, {}, 1, 10, 0); }), "too short"));
    CHECK(contains(message_of<UsageError>([&] { loader(text, 0, 10, 0); }), "data.batch = 0"));
}

TEST_CASE("gather joins pieces in order") {
    auto text = counting(100);
    CHECK(gather(text, {{10, 12}, {50, 51}}) == std::vector<std::uint8_t>{10, 11, 50});
    CHECK(gather(text, {}).empty());
}

TEST_CASE("samples depend on the tokens alone, not on how wide they are or how they are cut into files") {
    std::vector<std::uint16_t> shorts(3000);
    std::vector<std::uint32_t> longs(3000);
    for (std::size_t i = 0; i < shorts.size(); ++i)
        shorts[i] = static_cast<std::uint16_t>(i * 7 % 5000), longs[i] = shorts[i];
    Tokens whole, cut;
    whole.add(std::span<std::uint16_t const>(shorts));
    for (std::size_t at = 0; at < longs.size(); at += 700)
        cut.add(
            std::span<std::uint32_t const>(longs).subspan(at, std::min<std::size_t>(700, longs.size() - at)));
    Loader a(whole, {{0, 3000}}, 4, 50, 9), b(cut, {{0, 3000}}, 4, 50, 9);
    std::vector<std::int32_t> tokens(200), targets(200), t(200), u(200);
    std::set<std::vector<std::int32_t>> epoch;
    for (int step = 0; step < 40; ++step) {
        a.fill(step, 0, 4, tokens.data(), targets.data());
        b.fill(step, 0, 4, t.data(), u.data());
        REQUIRE(tokens == t);
        REQUIRE(targets == u);
        for (std::size_t i = 0; i < 200; ++i) REQUIRE(targets[i] == (tokens[i] + 7) % 5000);
        epoch.insert(tokens);
    }
    CHECK(epoch.size() == 40);  // epochs of 59 windows are shuffled anew
}
