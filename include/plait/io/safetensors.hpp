#pragma once

#include "plait/core/shape.hpp"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace plait {

/// A named tensor, or a block of one, in memory that someone else owns, dense and row-major.
struct NamedArray {
    std::string name;
    Meta meta;  // the block's
    std::span<std::byte> bytes;
    Placement place{};  // of the block in its logical tensor; empty: the whole
    /// Read: rows of dim 0 that a file must have; 0: all. The rest is padding, of which it may have more or
    /// less.
    std::int64_t rows = 0;
};

/// What was written: the size, and XXH64 as 16 hex digits, of the file and of each tensor's bytes, where
/// xxHash was built in.
struct WrittenFile {
    std::int64_t bytes = 0;
    std::optional<std::string> xxh64;
    std::map<std::string, std::string> tensors;
};

/// Writes a safetensors file straight from the arrays' memory and syncs it to disk. The data is ordered by
/// element size, largest first, then as given, so every tensor is aligned to its elements. A block is a
/// tensor of its own shape, and its place is a string in the metadata: "block:NAME" is "[0, 512] of [1024,
/// 1024]", origin and logical shape. Throws Error naming the path and the reason, or the array whose bytes do
/// not fit its meta or that does not lie in its whole.
WrittenFile write_safetensors(std::filesystem::path const& path, std::span<NamedArray const> arrays,
                              std::map<std::string, std::string> const& metadata = {});

/// A safetensors file mapped read-only. Opening it checks the whole header against the file, so that every
/// entry's bytes are there; what is wrong is an Error of one line with the file, the tensor and the sizes.
/// Format: https://huggingface.co/docs/safetensors. Present where Plait was built with nlohmann-json.
class SafetensorsFile {
  public:
    struct Entry {
        std::string name;
        Meta meta;
        std::span<std::byte const> bytes;  // valid as long as the file object
        Placement place{};                 // empty: the whole
    };

    explicit SafetensorsFile(std::filesystem::path path);
    ~SafetensorsFile();
    SafetensorsFile(SafetensorsFile&& other) noexcept;
    SafetensorsFile& operator=(SafetensorsFile&& other) noexcept;

    std::filesystem::path const& path() const { return path_; }
    /// In the order of the data.
    std::vector<Entry> const& entries() const { return entries_; }
    /// Without the blocks' places.
    std::map<std::string, std::string> const& metadata() const { return metadata_; }
    /// The entry, or null.
    Entry const* find(std::string_view name) const;
    /// The entry; throws Error naming the file and the tensor.
    Entry const& at(std::string_view name) const;
    /// Fills every array's block from the file. The names, dtypes and logical shapes of the file and of
    /// `arrays` must be the same and every element wanted must be there; the Error names the first that
    /// differs, and nothing has been copied then.
    void copy_to(std::span<NamedArray const> arrays) const;

  private:
    void map();
    void read_header();

    std::filesystem::path path_;
    std::span<std::byte const> file_;
    std::vector<Entry> entries_;
    std::map<std::string, std::size_t, std::less<>> index_;
    std::map<std::string, std::string> metadata_;
};

}  // namespace plait
