#pragma once

#include "plait/io/file.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <system_error>

namespace plait {

PLAIT_INLINE void fail_with_errno(std::string_view what, std::filesystem::path const& path) {
    auto reason = std::generic_category().message(errno);
    fail("cannot {} {}: {}", what, path.string(), reason);
}

PLAIT_INLINE FileWriter::FileWriter(std::filesystem::path path) : path_(std::move(path)) {
    descriptor_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (descriptor_ < 0) fail_with_errno("write", path_);
}

PLAIT_INLINE FileWriter::~FileWriter() {
    if (descriptor_ >= 0) ::close(descriptor_);
}

PLAIT_INLINE void FileWriter::write(std::span<std::byte const> bytes) {
    while (!bytes.empty()) {
        // The kernel takes less than 2 GiB a call.
        auto n =
            ::write(descriptor_, bytes.data(), std::min<std::size_t>(bytes.size(), std::size_t{1} << 30));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) fail_with_errno("write", path_);
        bytes_ += n;
        bytes = bytes.subspan(static_cast<std::size_t>(n));
    }
}

PLAIT_INLINE void FileWriter::finish() {
    // Some systems report a full disk or a lost server only here.
    if (::fsync(descriptor_) != 0) fail_with_errno("sync", path_);
    int closing = std::exchange(descriptor_, -1);
    if (::close(closing) != 0) fail_with_errno("close", path_);
}

PLAIT_INLINE FileLock::FileLock(std::filesystem::path path) {
    int descriptor = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (descriptor < 0) fail_with_errno("write", path);
    while (::flock(descriptor, LOCK_EX | LOCK_NB) != 0) {
        if (errno == EINTR) continue;
        if (errno != EWOULDBLOCK) break;
        ::close(descriptor);
        return;
    }
    descriptor_ = descriptor;
}

PLAIT_INLINE FileLock::~FileLock() {
    if (descriptor_ >= 0) ::close(descriptor_);
}

PLAIT_INLINE void sync_folder(std::filesystem::path const& folder) {
    int descriptor = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor < 0) fail_with_errno("open", folder);
    // EINVAL: a file system that cannot sync a folder keeps its own order.
    bool synced = ::fsync(descriptor) == 0 || errno == EINVAL;
    int reason = errno;
    ::close(descriptor);
    errno = reason;
    if (!synced) fail_with_errno("sync", folder);
}

PLAIT_INLINE void make_folder(std::filesystem::path const& folder) {
    std::error_code error;
    std::filesystem::create_directories(folder, error);
    check(!error, "cannot make the folder {}: {}", folder.string(), error.message());
}

PLAIT_INLINE void write_file_atomically(std::filesystem::path const& path, std::string_view text) {
    auto aside = path;
    aside += ".new";
    try {
        FileWriter out(aside);
        out.write(text);
        out.finish();
        if (std::rename(aside.c_str(), path.c_str()) != 0) fail_with_errno("replace", path);
    } catch (Error const&) {
        ::unlink(aside.c_str());
        throw;
    }
    sync_folder(path.has_parent_path() ? path.parent_path() : ".");
}

PLAIT_INLINE std::string read_file(std::filesystem::path const& path) {
    int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) fail_with_errno("read", path);
    std::string text;
    struct stat about {};
    if (::fstat(descriptor, &about) == 0 && S_ISREG(about.st_mode))
        text.reserve(static_cast<std::size_t>(about.st_size) + 1);
    char block[65536];
    while (true) {
        auto n = ::read(descriptor, block, sizeof block);
        if (n < 0 && errno == EINTR) continue;
        int reason = errno;
        if (n <= 0) ::close(descriptor);
        errno = reason;
        if (n < 0) fail_with_errno("read", path);
        if (n == 0) return text;
        text.append(block, static_cast<std::size_t>(n));
    }
}

}  // namespace plait
