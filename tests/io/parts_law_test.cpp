// What many writers saved, cut in any way, is read back by any number of readers, cut in any other way.
#ifdef PLAIT_HAS_JSON

#include "catch.hpp"
#include "plait/core/array.hpp"
#include "plait/io/checkpoint.hpp"
#include "scratch.hpp"

#include <random>
#include <thread>

using namespace plait;

namespace {

using Engine = std::mt19937;

std::int64_t draw(Engine& engine, std::int64_t below) {
    return static_cast<std::int64_t>(engine() % static_cast<std::uint32_t>(below));
}

struct Box {
    Shape origin, shape;
};

/// The elements of a tensor in `box`, one by one.
Array elements_in(Array const& whole, Box const& box) {
    Array part(Meta{whole.meta().dtype, box.shape});
    auto width = static_cast<std::size_t>(bytes_of(whole.meta().dtype, 1));
    for (std::int64_t i = 0; i < part.meta().elements(); ++i) {
        std::int64_t rest = i, number = 0, stride = 1;
        for (int d = box.shape.rank() - 1; d >= 0; --d) {
            number += (rest % box.shape[d] + box.origin[d]) * stride;
            stride *= whole.shape()[d];
            rest /= box.shape[d];
        }
        std::memcpy(part.bytes().data() + static_cast<std::size_t>(i) * width,
                    whole.bytes().data() + static_cast<std::size_t>(number) * width, width);
    }
    return part;
}

/// `n` boxes that together are a tensor of `shape`; some are empty and some overlap. A scalar is only copied.
std::vector<Box> random_cut(Shape const& shape, std::size_t n, Engine& engine) {
    Box whole{shape, shape};
    for (auto& first : whole.origin) first = 0;
    std::vector<Box> boxes(shape.empty() ? n : 1, whole);
    while (boxes.size() < n) {
        auto& box = boxes[static_cast<std::size_t>(draw(engine, std::ssize(boxes)))];
        auto other = box;
        int d = static_cast<int>(draw(engine, shape.rank()));
        auto at = draw(engine, box.shape[d] + 1);
        box.shape[d] = at;
        other.origin[d] += at;
        other.shape[d] -= at;
        boxes.push_back(other);
    }
    for (auto& box : boxes)
        for (int d = 0; d < shape.rank(); ++d) {
            if (draw(engine, 4)) continue;
            auto before = draw(engine, box.origin[d] + 1);
            box.origin[d] -= before;
            box.shape[d] += before;
            box.shape[d] += draw(engine, shape[d] - box.origin[d] - box.shape[d] + 1);
        }
    std::shuffle(boxes.begin(), boxes.end(), engine);
    return boxes;
}

struct Tensors {
    std::vector<std::pair<std::string, Array>> wholes;

    explicit Tensors(Engine& engine) {
        for (int i = 0; i < 8; ++i) {
            Shape shape;
            for (int d = 0; d < i % 5; ++d) shape.push_back(1 + draw(engine, 7));
            Array a(Meta{static_cast<DType>(draw(engine, std::ssize(dtype_table))), shape});
            for (auto& b : a.bytes()) b = static_cast<std::byte>(engine());
            wholes.emplace_back("blocks." + std::to_string(i) + ".weight", a);
        }
    }
};

/// What one rank holds.
struct Rank {
    std::vector<Array> memory;
    std::vector<NamedArray> arrays;

    void hold(std::string const& name, Array const& whole, Box const& box, Array const& block) {
        memory.push_back(block);
        Placement place;
        if (!(box.shape == whole.shape())) place = {box.origin, whole.shape()};
        arrays.push_back({name, block.meta(), block.bytes(), place});
    }
};

/// Each tensor cut over n ranks.
std::vector<Rank> ranks_of(Tensors const& tensors, std::size_t n, Engine& engine) {
    std::vector<Rank> ranks(n);
    for (auto const& [name, whole] : tensors.wholes) {
        auto boxes = random_cut(whole.shape(), n, engine);
        for (std::size_t r = 0; r < n; ++r)
            ranks[r].hold(name, whole, boxes[r], elements_in(whole, boxes[r]));
    }
    return ranks;
}

/// Saves what the ranks hold, once as weights and once as optimizer state the other way round.
Checkpoint saved(std::filesystem::path const& run, std::vector<Rank> const& ranks) {
    auto aside = begin_checkpoint(run, 5);
    std::vector<std::vector<Manifest::File>> files(ranks.size());
    std::vector<std::thread> writers;
    for (std::size_t r = 0; r < ranks.size(); ++r)
        writers.emplace_back([&, r] {
            CheckpointPart part{static_cast<int>(r), static_cast<int>(ranks.size())};
            files[r] = write_checkpoint_part(aside, 5, part, ranks[r].arrays, ranks.rbegin()[r].arrays);
        });
    for (auto& w : writers) w.join();
    Manifest m;
    m.step = 5;
    for (auto const& f : files) m.files.insert(m.files.end(), f.begin(), f.end());
    auto folder = finish_checkpoint(run, aside, m, 2);
    CHECK(m.files.size() == 2 * ranks.size());
    return open_checkpoint(folder);
}

/// Whether n readers, cut anew, get the tensors' elements.
bool reads_back(Checkpoint const& checkpoint, Tensors const& tensors, std::size_t n, Engine& engine) {
    auto wanted = ranks_of(tensors, n, engine);
    for (auto const& rank : wanted)
        for (bool weights : {true, false}) {
            Rank read;
            for (auto const& a : rank.arrays) {
                read.memory.emplace_back(a.meta);
                read.arrays.push_back({a.name, a.meta, read.memory.back().bytes(), a.place});
            }
            if (weights) checkpoint.copy_weights_to(read.arrays);
            else checkpoint.copy_optimizer_to(read.arrays);
            for (std::size_t i = 0; i < read.arrays.size(); ++i)
                if (!std::ranges::equal(read.arrays[i].bytes, rank.arrays[i].bytes)) return false;
        }
    return true;
}

}  // namespace

TEST_CASE("blocks of any cut are read as blocks of any other cut") {
    Engine engine(1);
    for (std::size_t writers : {1, 2, 3, 4, 8})
        for (int trial = 0; trial < 4; ++trial) {
            ScratchFolder run;
            Tensors tensors(engine);
            auto checkpoint = saved(run.path(), ranks_of(tensors, writers, engine));
            for (std::size_t readers : {1, 2, 3, 4, 8}) {
                INFO(writers << " writers, " << readers << " readers, trial " << trial);
                REQUIRE(reads_back(checkpoint, tensors, readers, engine));
            }
        }
}

TEST_CASE("two blocks in each other's place are noticed") {
    Engine engine(2);
    for (std::size_t n : {2, 4, 8})
        for (bool swapped : {false, true}) {
            ScratchFolder run;
            Tensors tensors(engine);
            auto ranks = ranks_of(tensors, n, engine);
            // Equal blocks of one more tensor, cut along both dims.
            auto rows = static_cast<std::int64_t>(n) / 2;
            Array grid(Meta{f32, {3 * rows, 10}});
            for (auto& b : grid.bytes()) b = static_cast<std::byte>(engine());
            tensors.wholes.emplace_back("grid", grid);
            for (std::size_t r = 0; r < n; ++r) {
                auto i = static_cast<std::int64_t>(r);
                Box box{{i / 2 * 3, i % 2 * 5}, {3, 5}};
                ranks[r].hold("grid", grid, box, elements_in(grid, box));
            }
            if (swapped) std::swap(ranks[0].arrays.back().place, ranks[n - 1].arrays.back().place);
            auto checkpoint = saved(run.path(), ranks);
            for (std::size_t readers : {1, 3}) {
                INFO(n << " writers, " << readers << " readers");
                CHECK(reads_back(checkpoint, tensors, readers, engine) == !swapped);
            }
        }
}

#endif
