#include "plait/ops/view.hpp"
#include "plait/graph/micro.hpp"
#include "plait/graph/parts.hpp"
#include "row_runs.hpp"

using namespace tests;
using namespace plait;

TEST_CASE("views move the CPU's bytes, for every size of elements") {
    for (auto t : {f32, bf16, i64, u8}) {
        auto x = [&](Shape shape) { return integers(shape, 0, 250, t); };
        check_row(Reshape{{6, 10}}, {x({3, 20})}, true);
        // The last dim stays, moves, or is of size 1; planes of less and more than a tile.
        std::pair<std::vector<int>, Shape> const orders[] = {{{0, 2, 1, 3}, {2, 5, 3, 17}},
                                                             {{0, 2, 1, 3}, {2, 5, 3, 16}},
                                                             {{1, 0}, {131, 67}},
                                                             {{1, 0}, {64, 128}},
                                                             {{2, 0, 1}, {5, 33, 70}},
                                                             {{3, 1, 0, 2}, {3, 4, 5, 6}},
                                                             {{0, 1}, {5, 9}},
                                                             {{1, 0}, {1, 9}},
                                                             {{0, 2, 1}, {3, 65, 66}},
                                                             {{2, 1, 0}, {9, 1, 5}},
                                                             {{1, 0, 2}, {4, 0, 3}},
                                                             {{4, 2, 0, 3, 1}, {2, 3, 4, 5, 6}},
                                                             {{1, 2, 0, 3}, {70, 2, 3, 1}}};
        for (auto const& [order, shape] : orders) check_row(Transpose{order}, {x(shape)}, true);
        check_row(Slice{1, 2, 5}, {x({3, 9, 7})}, true);
        check_row(Slice{1, 2, 4}, {x({3, 9, 16})}, true);
        check_row(Slice{0, 1, 0}, {x({3, 9})}, true);
        check_row(Slice{0, 1, 2}, {x({3, 9})}, true);
        check_row(Pad{1, 2, 3}, {x({3, 4, 7})}, true);
        check_row(Pad{0, 0, 3}, {x({3, 4})}, true);
        check_row(Concat{1}, {x({2, 3, 5}), x({2, 1, 5}), x({2, 4, 5})}, true);
        check_row(Part{1, 2, 5}, {x({3, 9, 70})}, true);
        check_row(Part{0, 1, 2}, {x({3, 70})}, true);
        check_row(Join{1}, {x({5, 3, 70}), x({5, 1, 70}), x({5, 4, 70})}, true);
        check_row(Join{0}, {x({2, 70}), x({3, 70})}, true);
        for (int micro : {0, 2}) {
            check_row(MicroTake{1, 3}, {x({5, 9, 70})}, true, {.micro = micro});
            check_row(MicroTake{0, 3}, {x({9, 7})}, true, {.micro = micro});
            check_row(MicroStack{1, 3}, {x({5, 3, 7})}, true, {.before = {x({5, 9, 7})}, .micro = micro});
        }
    }
}
