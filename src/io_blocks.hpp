#pragma once

#include "plait/io/safetensors.hpp"

#include <span>
#include <string>
#include <string_view>

namespace plait::detail {

/// A name from a file as one short line, whatever bytes it holds.
std::string shown(std::string_view name);

/// Whether a tensor of these sizes can be counted; a zero makes it empty, but the others count all the same.
bool is_countable(Shape const& shape);

/// Whether a block of `shape` at `place` is its whole logical tensor.
inline bool is_whole(Shape const& shape, Placement const& place) {
    return place.logical.empty() || place.logical == shape;
}

/// Throws Error beginning with `where` unless a block of `meta` at `place` lies in its logical tensor.
void check_block(std::string const& where, Meta const& meta, Placement const& place);

/// "[0, 512] of [1024, 1024]": origin and logical shape, as a file's metadata holds them.
std::string placement_text(Placement const& place);
/// Throws Error beginning with `where` for any other text than `placement_text` gives.
Placement parse_placement(std::string const& where, std::string const& text);

/// Fills each array's block from the blocks in `files`; where two of them hold an element, from the first.
/// Names, dtypes and logical shapes must be the same on both sides and every element there, else an Error
/// beginning with `where`, the file or folder, and nothing has been copied.
void copy_blocks(std::string const& where, std::span<SafetensorsFile const> files,
                 std::span<NamedArray const> arrays);

}  // namespace plait::detail
