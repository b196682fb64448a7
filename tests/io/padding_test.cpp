#ifdef PLAIT_HAS_JSON

#include "catch.hpp"
#include "plait/core/array.hpp"
#include "plait/io/checkpoint.hpp"
#include "scratch.hpp"

using namespace plait;

namespace {

/// A weight f32[4, 2] whose rows are 1, 2, 3 and `last`, saved as two blocks.
Checkpoint saved(ScratchFolder const& folder, float last) {
    Array upper(Shape{3, 2}, std::vector<float>{1, 1, 2, 2, 3, 3});
    Array lower(Shape{1, 2}, std::vector<float>{last, last});
    std::vector<NamedArray> const parts{{"w", upper.meta(), upper.bytes(), {{0, 0}, {4, 2}}},
                                        {"w", lower.meta(), lower.bytes(), {{3, 0}, {4, 2}}}};
    auto const aside = begin_checkpoint(folder.path(), 1);
    Manifest manifest;
    manifest.step = 1;
    for (int r : {0, 1})
        for (auto& f : write_checkpoint_part(aside, 1, {r, 2}, std::span(parts).subspan(r, 1), {}))
            manifest.files.push_back(f);
    return open_checkpoint(finish_checkpoint(folder.path(), aside, manifest));
}

/// What a block reads of it that was filled with nines.
std::vector<float> read(Checkpoint const& c, Shape shape, std::int64_t rows, Placement place = {}) {
    Array a(Meta{f32, shape});
    std::fill(a.values<float>().begin(), a.values<float>().end(), 9.0f);
    std::vector<NamedArray> const arrays{{"w", a.meta(), a.bytes(), place, rows}};
    c.copy_weights_to(arrays);
    auto const x = a.values<float>();
    return {x.begin(), x.end()};
}

using Floats = std::vector<float>;

}  // namespace

TEST_CASE("a checkpoint may have more or fewer rows of padding") {
    ScratchFolder folder;
    auto const c = saved(folder, 0);
    CHECK(read(c, {4, 2}, 0) == Floats{1, 1, 2, 2, 3, 3, 0, 0});
    CHECK(read(c, {3, 2}, 3) == Floats{1, 1, 2, 2, 3, 3});
    // What the file has not stays as it is.
    CHECK(read(c, {6, 2}, 3) == Floats{1, 1, 2, 2, 3, 3, 0, 0, 9, 9, 9, 9});
    CHECK(read(c, {3, 2}, 3, {{3, 0}, {6, 2}}) == Floats{0, 0, 9, 9, 9, 9});
    CHECK(read(c, {2, 1}, 3, {{4, 1}, {6, 2}}) == Floats{9, 9});
    auto refused = [](auto const& f) {
        auto message = message_of<Error>(f);
        CHECK_FALSE(contains(message, "\n"));
        return message;
    };
    CHECK(contains(refused([&] {
                       read(c, {3, 2}, 0);
                   }),
                   "tensor \"w\" is f32[4, 2], but f32[3, 2] is wanted"));
    CHECK(contains(refused([&] {
                       read(c, {6, 2}, 5);
                   }),
                   "tensor \"w\" is f32[4, 2], but f32[6, 2] is wanted"));
    CHECK(contains(refused([&] {
                       read(c, {4, 3}, 3);
                   }),
                   "tensor \"w\" is f32[4, 2], but f32[4, 3] is wanted"));
}

TEST_CASE("rows that are not zero are no padding") {
    ScratchFolder folder;
    auto const c = saved(folder, 4);
    CHECK(read(c, {4, 2}, 3) == Floats{1, 1, 2, 2, 3, 3, 4, 4});
    CHECK(contains(message_of<Error>([&] {
                       read(c, {3, 2}, 3);
                   }),
                   "of which f32[3, 2] is wanted, but the rest is no padding: it is not zero"));
}

#endif
