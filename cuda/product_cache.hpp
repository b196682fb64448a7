#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>

namespace plait::cuda {

/// Algorithms of products that were found to be the fastest, in a file that outlives the process. What is
/// wrong with the file, or in it, is not an error: then it holds less.
class ProductCache {
  public:
    /// A cublasLtMatmulAlgo_t, which its library of the same version takes back.
    using Algorithm = std::array<std::uint64_t, 8>;

    /// Reads the file; with an empty path nothing is kept.
    explicit ProductCache(std::filesystem::path file);

    /// In $XDG_CACHE_HOME or ~/.cache: one file for each GPU and version of the library. Empty without a
    /// home.
    static std::filesystem::path file_for(std::string_view gpu, std::size_t version);

    std::optional<Algorithm> find(std::string const& shape) const;
    /// Writes the file anew, with what others have put there meanwhile; it is renamed into its place.
    void put(std::string const& shape, Algorithm const& algorithm);

  private:
    std::filesystem::path file_;
    std::map<std::string, Algorithm> known_;
};

}  // namespace plait::cuda
