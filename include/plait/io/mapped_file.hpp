#pragma once

#include "plait/core/inline.hpp"

#include <cstddef>
#include <filesystem>
#include <span>
#include <string_view>

namespace plait {

/// A regular file mapped read-only, so that its bytes take memory only while they are used.
class MappedFile {
  public:
    /// Throws Error with the path and the system's reason.
    explicit MappedFile(std::filesystem::path const& path);
    ~MappedFile();
    MappedFile(MappedFile&& other) noexcept;
    MappedFile& operator=(MappedFile&& other) noexcept;

    std::span<std::byte const> bytes() const { return bytes_; }
    std::string_view text() const { return {reinterpret_cast<char const*>(bytes_.data()), bytes_.size()}; }

  private:
    std::span<std::byte const> bytes_;
};

}  // namespace plait

#ifdef PLAIT_HEADER_ONLY
#include "plait/io/mapped_file-inl.hpp"
#endif
