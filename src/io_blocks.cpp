#ifdef PLAIT_HAS_JSON

#include "io_blocks.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <map>
#include <optional>
#include <set>
#include <utility>

namespace plait::detail {
namespace {

using Json = nlohmann::json;

/// A box of elements of a logical tensor.
struct Box {
    Shape origin, shape;
};

Box box_of(Shape const& shape, Placement const& place) {
    Box box{place.origin, shape};
    if (place.logical.empty())
        for (box.origin = shape; auto& first : box.origin) first = 0;
    return box;
}

Meta logical_of(Meta const& block, Placement const& place) {
    return {block.dtype, place.logical.empty() ? block.shape : place.logical};
}

/// What two boxes of one tensor share, if anything.
std::optional<Box> common(Box const& a, Box const& b) {
    Box both = a;
    for (int d = 0; d < a.shape.rank(); ++d) {
        auto first = std::max(a.origin[d], b.origin[d]);
        auto end = std::min(a.origin[d] + a.shape[d], b.origin[d] + b.shape[d]);
        if (first >= end) return {};
        both.origin[d] = first;
        both.shape[d] = end - first;
    }
    return both;
}

/// Adds to `rest` the boxes that make up `box` without `part`, which lies in it.
void add_rest(Box box, Box const& part, std::vector<Box>& rest) {
    for (int d = 0; d < box.shape.rank(); ++d) {
        auto before = part.origin[d] - box.origin[d];
        auto after = box.shape[d] - before - part.shape[d];
        if (before > 0) {
            rest.push_back(box);
            rest.back().shape[d] = before;
        }
        if (after > 0) {
            rest.push_back(box);
            rest.back().origin[d] = part.origin[d] + part.shape[d];
            rest.back().shape[d] = after;
        }
        box.origin[d] = part.origin[d];
        box.shape[d] = part.shape[d];
    }
}

/// A block in memory: a box's elements, row-major.
template <class Byte>
struct Block {
    Box box;
    Byte* bytes;
};

/// Copies the elements of `part` in runs that lie side by side in both blocks.
void copy_part(DType dtype, Box const& part, Block<std::byte const> const& from, Block<std::byte> const& to) {
    auto const rank = part.shape.rank();
    // Dims from `cut` on are whole in both, so a run spans them and the dim before.
    int cut = rank;
    while (cut > 0 && part.shape[cut - 1] == from.box.shape[cut - 1] &&
           part.shape[cut - 1] == to.box.shape[cut - 1])
        --cut;
    auto const first = std::max(cut - 1, 0);
    auto const total = part.shape.elements(), run = part.shape.dims(first, rank).elements();
    auto const bytes = static_cast<std::size_t>(bytes_of(dtype, run));
    for (std::int64_t done = 0; done < total; done += run) {
        std::int64_t rest = done / run, source = 0, target = 0, source_stride = 1, target_stride = 1;
        for (int d = rank - 1; d >= 0; --d) {
            auto i = part.origin[d];
            if (d < first) {
                i += rest % part.shape[d];
                rest /= part.shape[d];
            }
            source += (i - from.box.origin[d]) * source_stride;
            target += (i - to.box.origin[d]) * target_stride;
            source_stride *= from.box.shape[d];
            target_stride *= to.box.shape[d];
        }
        std::memcpy(to.bytes + bytes_of(dtype, target), from.bytes + bytes_of(dtype, source), bytes);
    }
}

struct Stored {
    SafetensorsFile const* file;
    SafetensorsFile::Entry const* entry;
};

/// The blocks of each tensor, whose dtype and logical shape must be the same in all files.
std::map<std::string_view, std::vector<Stored>> stored_blocks(std::string const& where,
                                                              std::span<SafetensorsFile const> files) {
    std::map<std::string_view, std::vector<Stored>> stored;
    for (auto const& file : files)
        for (auto const& entry : file.entries()) stored[entry.name].push_back({&file, &entry});
    for (auto const& [name, blocks] : stored)
        for (auto const& b : blocks) {
            auto one = logical_of(blocks[0].entry->meta, blocks[0].entry->place);
            auto other = logical_of(b.entry->meta, b.entry->place);
            check(one == other, "{}: tensor {} is {} in {}, but {} in {}", where, shown(name), to_string(one),
                  blocks[0].file->path().filename().string(), to_string(other),
                  b.file->path().filename().string());
        }
    return stored;
}

struct Copy {
    Stored from;
    NamedArray const* to;
    Box part;
};

/// Whether only rows of padding, those from `rows` on, can differ in number.
bool fits(Meta const& have, Meta const& want, std::int64_t rows) {
    auto shape = have.shape;
    if (rows <= 0 || shape.rank() != want.shape.rank()) return have == want;
    if (std::min(shape[0], want.shape[0]) < rows) return false;
    shape[0] = want.shape[0];
    return Meta{have.dtype, shape} == want;
}

/// Whether the elements from `first` on are zeros, as padding is.
bool is_zero_from(std::int64_t first, std::vector<Stored> const& blocks) {
    bool zero = true;
    for (auto const& [file, entry] : blocks) {
        auto const size = bytes_of(entry->meta.dtype, 1);
        for_each_run(entry->meta.shape, entry->place,
                     [&](std::int64_t local, std::int64_t logical, std::int64_t count) {
                         auto const begin = std::max<std::int64_t>(first - logical, 0);
                         for (auto i = begin * size; i < count * size; ++i)
                             zero &= entry->bytes[static_cast<std::size_t>(local * size + i)] == std::byte{0};
                     });
    }
    return zero;
}

/// Adds the copies that fill `array`, each element once, as far as there are `rows`.
void plan(std::string const& where, std::vector<Stored> const& blocks, NamedArray const& array,
          std::int64_t rows, std::vector<Copy>& copies) {
    std::vector<Box> missing;
    auto own = box_of(array.meta.shape, array.place);
    if (array.rows > 0) own.shape[0] = std::clamp<std::int64_t>(rows - own.origin[0], 0, own.shape[0]);
    if (own.shape.elements() > 0) missing.push_back(own);
    for (auto const& block : blocks) {
        if (missing.empty()) return;
        auto box = box_of(block.entry->meta.shape, block.entry->place);
        for (auto const& wanted : std::exchange(missing, {})) {
            if (auto part = common(wanted, box)) {
                copies.push_back({block, &array, *part});
                add_rest(wanted, *part, missing);
            } else {
                missing.push_back(wanted);
            }
        }
    }
    if (missing.empty()) return;
    fail("{}: tensor {} is incomplete: nothing holds the {} at {} of its {}", where, shown(array.name),
         to_string(missing[0].shape), to_string(missing[0].origin),
         to_string(logical_of(array.meta, array.place)));
}

/// Reads "[8, 64]"; nothing for what no shape is written as.
std::optional<Shape> parse_shape(std::string_view text) {
    if (text.size() < 2 || !text.starts_with('[') || !text.ends_with(']')) return {};
    text = text.substr(1, text.size() - 2);
    Shape shape;
    while (!text.empty()) {
        std::int64_t size = 0;
        auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), size);
        if (error != std::errc{} || size < 0 || shape.rank() == Shape::max_rank) return {};
        shape.push_back(size);
        text.remove_prefix(static_cast<std::size_t>(end - text.data()));
        if (text.starts_with(", ")) text.remove_prefix(2);
        else if (!text.empty()) return {};
    }
    return shape;
}

}  // namespace

std::string shown(std::string_view name) {
    auto text = Json(name).dump(-1, ' ', true, Json::error_handler_t::replace);
    return text.size() <= 200 ? text : text.substr(0, 200) + "...\"";
}

bool is_countable(Shape const& shape) {
    std::int64_t elements = 1;
    for (auto size : shape)
        if (__builtin_mul_overflow(elements, std::max<std::int64_t>(size, 1), &elements) ||
            elements > Shape::largest)
            return false;
    return true;
}

void check_block(std::string const& where, Meta const& meta, Placement const& place) {
    auto const rank = place.logical.rank();
    if (rank == 0 && place.origin.empty()) return;
    bool inside = place.origin.rank() == rank && meta.shape.rank() == rank;
    for (int d = 0; inside && d < rank; ++d)
        inside = place.origin[d] >= 0 && meta.shape[d] <= place.logical[d] &&
                 place.origin[d] <= place.logical[d] - meta.shape[d];
    check(inside, "{} is a block {} at {}, which does not lie in its whole, {}", where, to_string(meta),
          to_string(place.origin), to_string(place.logical));
    check(is_countable(place.logical), "{} is a block of {}, which is too large", where,
          to_string(place.logical));
}

std::string placement_text(Placement const& place) {
    return to_string(place.origin) + " of " + to_string(place.logical);
}

Placement parse_placement(std::string const& where, std::string const& text) {
    auto middle = text.find(" of ");
    if (middle != std::string::npos) {
        auto origin = parse_shape(std::string_view(text).substr(0, middle));
        auto logical = parse_shape(std::string_view(text).substr(middle + 4));
        // Back to text, as only one spelling is right.
        if (origin && logical && !logical->empty() && placement_text({*origin, *logical}) == text)
            return {*origin, *logical};
    }
    fail("{} has the placement {}, which should be like \"[0, 2] of [4, 4]\"", where, shown(text));
}

void copy_blocks(std::string const& where, std::span<SafetensorsFile const> files,
                 std::span<NamedArray const> arrays) {
    auto stored = stored_blocks(where, files);
    std::set<std::string_view> wanted;
    std::vector<Copy> copies;
    for (auto const& a : arrays) {
        auto name = shown(a.name);
        check_block(fmt::format("the array for tensor {}", name), a.meta, a.place);
        check(std::cmp_equal(a.bytes.size(), a.meta.bytes()),
              "the array for tensor {} is {}, {} bytes, but {} are given", name, to_string(a.meta),
              a.meta.bytes(), a.bytes.size());
        auto blocks = stored.find(a.name);
        check(blocks != stored.end(), "{} has no tensor {}", where, name);
        auto const& first = *blocks->second[0].entry;
        auto have = logical_of(first.meta, first.place), want = logical_of(a.meta, a.place);
        check(fits(have, want, a.rows), "{}: tensor {} is {}, but {} is wanted", where, name, to_string(have),
              to_string(want));
        check(have == want || is_zero_from(want.shape.elements(), blocks->second),
              "{}: tensor {} is {}, of which {} is wanted, but the rest is no padding: it is not zero", where,
              name, to_string(have), to_string(want));
        plan(where, blocks->second, a, have.shape.rank() > 0 ? have.shape[0] : 0, copies);
        wanted.insert(a.name);
    }
    for (auto const& [name, blocks] : stored)
        check(wanted.contains(name), "{}: tensor {} has no place in the model", where, shown(name));
    for (auto const& [from, to, part] : copies)
        copy_part(to->meta.dtype, part,
                  {box_of(from.entry->meta.shape, from.entry->place), from.entry->bytes.data()},
                  {box_of(to->meta.shape, to->place), to->bytes.data()});
}

}  // namespace plait::detail

#endif
