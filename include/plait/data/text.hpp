#pragma once

#include "plait/core/check.hpp"
#include "plait/core/inline.hpp"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace plait {

/// Documents one after another in one buffer.
struct Text {
    std::vector<std::uint8_t> bytes;
    std::vector<std::int64_t> ends;  // of each document, exclusive; the last is bytes.size()

    // What was left out.
    std::int64_t binary_files = 0;      // hold a NUL byte
    std::int64_t unreadable_files = 0;  // found in a folder, but not readable
    std::int64_t capped_files = 0;      // did not fit under `max_bytes`

    std::int64_t documents() const { return static_cast<std::int64_t>(ends.size()); }
    std::span<std::uint8_t const> document(std::int64_t i) const {
        auto n = static_cast<std::size_t>(i);
        auto begin = static_cast<std::size_t>(n == 0 ? 0 : ends[n - 1]);
        return std::span(bytes).subspan(begin, static_cast<std::size_t>(ends[n]) - begin);
    }
};

struct TextOptions {
    std::vector<std::string> extensions;  // ".txt"; only files in folders are filtered; empty takes all
    std::int64_t max_bytes =
        0;  // of all documents together, 0 = no limit; the file that crosses it is left out
};

/// Reads text files, and folders with all that is in them, as bytes. Within a folder files come sorted by
/// path, by bytes, so the text is the same on every machine. Symbolic links inside folders are not followed,
/// and only regular files are read; empty files make no document. Throws UsageError for a path that does not
/// exist or cannot be read, and when no text is left, saying why.
Text read_text(std::span<std::string const> paths, TextOptions const& options = {});

}  // namespace plait

#ifdef PLAIT_HEADER_ONLY
#include "plait/data/text-inl.hpp"
#endif
