#include "plait/train/agreement.hpp"

#include "plait/comm/threads.hpp"
#include "scratch.hpp"

#include <algorithm>

using namespace plait;

namespace {

/// What every rank's f threw, in order of the ranks; "" where nothing.
template <class E, class F>
std::vector<std::string> messages(int size, F const& f) {
    std::vector<std::string> all(static_cast<std::size_t>(size));
    run_ranks(size, [&](Communicator& world) {
        all[static_cast<std::size_t>(world.rank())] = message_of<E>([&] { f(world); });
        world.barrier().wait();  // all still meet
    });
    return all;
}

template <class T>
bool all_are(std::vector<T> const& values, T const& value) {
    return std::all_of(values.begin(), values.end(), [&](auto const& v) { return v == value; });
}

}  // namespace

TEST_CASE("texts and numbers of any rank reach every rank") {
    for (int size : {1, 2, 3, 4}) {
        run_ranks(size, [&](Communicator& world) {
            int const r = world.rank(), n = world.size();
            auto text = [](int rank) { return std::string(static_cast<std::size_t>(3 * rank), 'a') + "\n"; };
            auto texts = gather_texts(world, text(r));
            for (int s = 0; s < n; ++s)
                check(texts[static_cast<std::size_t>(s)] == text(s), "text of rank {}", s);
            check(all_are(gather_texts(world, ""), std::string()), "no text");
            for (int root = 0; root < n; ++root)
                check(broadcast_text(world, text(r), root) == text(root), "broadcast from {}", root);
            check(broadcast_text(world, "").empty(), "empty broadcast");
            std::int64_t numbers[] = {r, -r, 7};
            auto all = gather_numbers(world, numbers);
            check(all.size() == static_cast<std::size_t>(3 * n) && all[all.size() - 3] == n - 1, "numbers");
            take_largest(world, numbers);
            check(numbers[0] == n - 1 && numbers[1] == 0 && numbers[2] == 7, "largest");
        });
    }
}

TEST_CASE("a failure of any rank is thrown by all, and names the rank unless all failed alike") {
    for (int size : {2, 3, 4}) {
        CHECK(all_are(messages<Error>(size, [](Communicator& w) { together(w, [] {}); }), std::string()));
        auto one = messages<AgreedError>(
            size, [](Communicator& w) { together(w, [&] { check(w.rank() != 1, "no more disk"); }); });
        CHECK(all_are(one, std::string("rank 1: no more disk")));
        auto alike = messages<AgreedUsageError>(
            size, [](Communicator& w) { together(w, [] { throw UsageError("no such file"); }); });
        CHECK(all_are(alike, std::string("no such file")));
        auto lowest = messages<AgreedUsageError>(size, [](Communicator& w) {
            together(w, [&] { throw UsageError(fmt::format("no file {}", w.rank())); });
        });
        CHECK(all_are(lowest, std::string("rank 0: no file 0")));
        auto again = messages<AgreedError>(size, [](Communicator& w) {
            together(w, [] {});
            together(w, [&] {
                if (w.rank() == 0) throw std::bad_alloc();
            });
        });
        CHECK(all_are(again, std::string("rank 0: std::bad_alloc")));
    }
    CHECK(messages<AgreedUsageError>(1, [](Communicator& w) {
              together(w, [] { throw ShapeError("too long"); });
          }) == std::vector<std::string>{"too long"});
}

TEST_CASE("ranks that claim the same agree; of others the one that differs is named, and what differs") {
    auto claim = [](int who, std::string const& key, std::string const& value) {
        return [=](Communicator& w) {
            Claims claims{{"data.batch", "16"}, {"run.seed", "1"}, {"the text", "15 bytes"}};
            for (auto& [name, text] : claims)
                if (w.rank() == who && name == key) text = value;
            agree(w, claims);
        };
    };
    for (int size : {1, 2, 3, 4}) CHECK(all_are(messages<Error>(size, claim(-1, "", "")), std::string()));
    CHECK(messages<AgreedUsageError>(3, claim(1, "run.seed", "2")).front() ==
          "the ranks disagree on run.seed: rank 1 has 2, rank 0 and rank 2 1: start them alike");
    // Rank 0 is wrong where most differ from it; of two ranks it is taken for right.
    CHECK(messages<AgreedUsageError>(4, claim(0, "the text", "14 bytes")).back() ==
          "the ranks disagree on the text: rank 0 has 14 bytes, rank 1, rank 2 and rank 3 15 bytes: start "
          "them alike");
    CHECK(contains(messages<AgreedUsageError>(2, claim(1, "data.batch", "8")).front(), "rank 1 has 8"));
    for (int size : {2, 3, 4}) {
        auto all = messages<AgreedUsageError>(size, claim(size - 1, "data.batch", "32"));
        CHECK(contains(all.front(), fmt::format("data.batch: rank {} has 32", size - 1)));
        CHECK(all_are(all, all.front()));
    }
    auto keys = messages<AgreedUsageError>(2, [](Communicator& w) {
        agree(w, w.rank() == 0 ? Claims{{"a", "1"}} : Claims{{"a", "1"}, {"b", "1"}});
    });
    CHECK(contains(keys.front(), "what a run is made of: rank 1 has 2 entries"));
}

TEST_CASE("of long texts that differ the part is shown where they do") {
    auto shown = [](std::string const& theirs, std::string const& ours) {
        auto text = messages<AgreedUsageError>(2, [&](Communicator& w) {
                        agree(w, {{"the plan", w.rank() ? theirs : ours}});
                    }).front();
        CHECK(std::count(text.begin(), text.end(), '\n') == 0);
        return text;
    };
    std::string const same(200, 'x'), tail = " " + std::string(300, 'y');
    CHECK(shown("data=2 " + same + " zero=1", "data=2 " + same + " zero=2") ==
          "the ranks disagree on the plan: rank 1 has ...zero=1, rank 0 ...zero=2: start them alike");
    CHECK(contains(shown(same + "\na b" + tail, same + "\na c" + tail), "rank 1 has ...b yyy"));
    CHECK(contains(shown(same + "\na b" + tail, same + "\na c" + tail), "yyy...: start them alike"));
    // Within a word of any length, and at the end of one text.
    CHECK(contains(shown(same + "1", same + "2"), "has ..." + std::string(40, 'x') + "1, rank 0 ..."));
    CHECK(contains(shown(same + " more", same), "has ..." + std::string(40, 'x') + " more, rank 0"));
    CHECK(contains(shown(same + " a more", same + " a "), "has ...more, rank 0 no more than that"));
}

TEST_CASE("what is agreed on costs no bytes along a mesh axis") {
    run_ranks(4, [](Communicator& world) {
        auto axis = world.split(world.rank() / 2, world.rank(), "data");
        agree(world, {{"a", "1"}});
        together(world, [] {});
        gather_texts(world, "some text");
        check(total_bytes(axis->traffic()) == 0, "bytes along the axis");
        check(total_bytes(world.traffic()) > 0, "no bytes in the world");
    });
}
