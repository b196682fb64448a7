#pragma once

#include "plait/io/file.hpp"
#include "plait/io/mapped_file.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

namespace plait {

PLAIT_INLINE MappedFile::MappedFile(std::filesystem::path const& path) {
    int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (descriptor < 0) fail_with_errno("read", path);
    struct stat about {};
    bool const known = ::fstat(descriptor, &about) == 0, regular = known && S_ISREG(about.st_mode);
    auto const size = regular ? static_cast<std::size_t>(about.st_size) : 0;
    void* memory = nullptr;
    if (size > 0) memory = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, descriptor, 0);
    int const reason = errno;
    ::close(descriptor);
    check(!known || regular, "cannot read {}: it is not a file", path.string());
    errno = reason;
    if (!known || memory == MAP_FAILED) fail_with_errno("read", path);
    bytes_ = {static_cast<std::byte const*>(memory), size};
}

PLAIT_INLINE MappedFile::~MappedFile() {
    if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

PLAIT_INLINE MappedFile::MappedFile(MappedFile&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}

PLAIT_INLINE MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
    std::swap(bytes_, other.bytes_);
    return *this;
}

}  // namespace plait
