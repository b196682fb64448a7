#pragma once

#include "plait/core/check.hpp"
#include "plait/core/inline.hpp"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace plait {

/// "cannot write runs/a/metrics.jsonl: No space left on device": an Error from `errno` as it stands.
[[noreturn]] void fail_with_errno(std::string_view what, std::filesystem::path const& path);

/// A file that is written front to back and is on disk once `finish` has returned.
/// Every failure is an Error with the path and the system's reason.
class FileWriter {
  public:
    /// Creates the file, or empties the one that is there.
    explicit FileWriter(std::filesystem::path path);
    /// Closes without syncing, so a writer that is left early promises nothing.
    ~FileWriter();
    FileWriter(FileWriter const&) = delete;
    FileWriter& operator=(FileWriter const&) = delete;

    void write(std::span<std::byte const> bytes);
    void write(std::string_view text) { write(std::as_bytes(std::span(text))); }
    /// Syncs to disk and closes.
    void finish();
    /// Bytes written so far.
    std::int64_t bytes() const { return bytes_; }

  private:
    std::filesystem::path path_;
    int descriptor_ = -1;
    std::int64_t bytes_ = 0;
};

/// A lock on a file, which is made when it is not there: one process at a time holds it, and it goes with the
/// process however that ends. Where the file system knows no locks, all hold it.
class FileLock {
  public:
    /// Does not wait. Throws Error where the file cannot be opened.
    explicit FileLock(std::filesystem::path path);
    ~FileLock();
    FileLock(FileLock&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}
    FileLock& operator=(FileLock&& other) noexcept {
        std::swap(descriptor_, other.descriptor_);
        return *this;
    }

    /// Whether this object has the lock, and not another.
    bool held() const { return descriptor_ >= 0; }

  private:
    int descriptor_ = -1;
};

/// Puts the names in `folder` on disk: a rename lasts only after this.
void sync_folder(std::filesystem::path const& folder);

/// Makes `folder` and its parents.
void make_folder(std::filesystem::path const& folder);

/// Replaces the file by `text`: a reader, or a crash, sees the old text or the new one, never a part.
void write_file_atomically(std::filesystem::path const& path, std::string_view text);

/// The whole file as text.
std::string read_file(std::filesystem::path const& path);

}  // namespace plait

#ifdef PLAIT_HEADER_ONLY
#include "plait/io/file-inl.hpp"
#endif
