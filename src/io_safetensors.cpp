#ifdef PLAIT_HAS_JSON

#include "plait/io/safetensors.hpp"

#include "io_blocks.hpp"
#include "io_hash.hpp"
#include "plait/io/file.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <set>
#include <utility>

static_assert(std::endian::native == std::endian::little,
              "safetensors is little-endian, and its bytes are used as they lie");

namespace plait {
namespace {

using Json = nlohmann::json;
using detail::shown;

// The limit of the reference reader; a header of this size names about a million tensors.
constexpr std::uint64_t max_header_bytes = 100'000'000;
// "block:" and a tensor's name is the key of its placement in the metadata.
constexpr std::string_view block_prefix = "block:";

/// Parses the header, refusing what a JSON library would let pass: repeated keys and deep nesting.
Json parse_header(std::string const& file, std::string_view text) {
    std::vector<std::set<std::string, std::less<>>> keys;
    auto guard = [&](int depth, Json::parse_event_t event, Json& value) {
        check(depth <= 3, "{}: the header nests deeper than the format does", file);
        if (event == Json::parse_event_t::object_start) keys.resize(static_cast<std::size_t>(depth) + 1);
        if (event == Json::parse_event_t::object_start) keys.back().clear();
        if (event == Json::parse_event_t::key) {
            auto name = value.get<std::string>();
            auto& seen = keys[static_cast<std::size_t>(depth) - 1];
            check(seen.insert(name).second, "{}: the header names {} twice", file, shown(name));
        }
        return true;
    };
    try {
        auto header = Json::parse(text.begin(), text.end(), guard);
        check(header.is_object(), "{}: the header is not a JSON object", file);
        return header;
    } catch (Json::exception const& e) {
        fail("{}: the header is not JSON: {}", file, std::string(e.what()).substr(0, 200));
    }
}

DType stored_dtype(std::string const& where, std::string const& name) {
    std::string known;
    for (std::size_t i = 0; i < dtype_table.size(); ++i) {
        if (dtype_table[i].safetensors == name) return static_cast<DType>(i);
        known += (i ? ", " : "") + std::string(dtype_table[i].safetensors);
    }
    fail("{} has dtype {}, which this version cannot read (it reads {})", where, shown(name), known);
}

/// Reads a list of non-negative integers that fit an int64.
std::vector<std::int64_t> sizes_of(std::string const& where, Json const& list, std::string_view what) {
    check(list.is_array(), "{} has no list '{}'", where, what);
    std::vector<std::int64_t> sizes;
    for (auto const& n : list) {
        check(n.is_number_unsigned() && n.get<std::uint64_t>() <= INT64_MAX,
              "{} has a '{}' that is not a list of sizes", where, what);
        sizes.push_back(n.get<std::int64_t>());
    }
    return sizes;
}

Meta read_meta(std::string const& where, Json const& entry) {
    check(entry.is_object() && entry.contains("dtype") && entry["dtype"].is_string(), "{} has no 'dtype'",
          where);
    check(entry.contains("shape"), "{} has no 'shape'", where);
    Meta meta{stored_dtype(where, entry["dtype"].get<std::string>()), {}};
    auto sizes = sizes_of(where, entry["shape"], "shape");
    check(sizes.size() <= Shape::max_rank, "{} has {} dims, at most {} can be read", where, sizes.size(),
          Shape::max_rank);
    for (auto size : sizes) meta.shape.push_back(size);
    check(detail::is_countable(meta.shape), "{} has a shape that is too large", where);
    return meta;
}

}  // namespace

WrittenFile write_safetensors(std::filesystem::path const& path, std::span<NamedArray const> arrays,
                              std::map<std::string, std::string> const& metadata) {
    std::vector<NamedArray const*> order;
    auto strings = metadata;
    for (auto const& [key, text] : metadata)
        check(!key.starts_with(block_prefix), "{}: the metadata '{}' would be taken for a block's place",
              path.string(), key);
    for (auto const& a : arrays) {
        detail::check_block(fmt::format("{}: '{}'", path.string(), a.name), a.meta, a.place);
        if (!detail::is_whole(a.meta.shape, a.place))
            strings[std::string(block_prefix) + a.name] = detail::placement_text(a.place);
        check(std::cmp_equal(a.bytes.size(), a.meta.bytes()), "{}: '{}' is {}, {} bytes, but {} are given",
              path.string(), a.name, to_string(a.meta), a.meta.bytes(), a.bytes.size());
        order.push_back(&a);
    }
    std::stable_sort(order.begin(), order.end(), [](auto const* a, auto const* b) {
        return row_of(a->meta.dtype).bits > row_of(b->meta.dtype).bits;
    });

    nlohmann::ordered_json header = nlohmann::ordered_json::object();
    std::set<std::string> names{"__metadata__"};
    if (!strings.empty()) header["__metadata__"] = strings;
    std::int64_t offset = 0;
    for (auto const* a : order) {
        check(names.insert(a->name).second, "{}: two arrays are called '{}'", path.string(), a->name);
        std::vector<std::int64_t> shape(a->meta.shape.begin(), a->meta.shape.end());
        auto end = offset + a->meta.bytes();
        // push_back, as ordered_json looks a key up by a walk over all.
        header.get_ref<nlohmann::ordered_json::object_t&>().push_back(
            {a->name,
             {{"dtype", row_of(a->meta.dtype).safetensors},
              {"shape", shape},
              {"data_offsets", {offset, end}}}});
        offset = end;
    }
    std::string text;
    try {
        text = header.dump();
    } catch (nlohmann::json::exception const& e) {
        fail("{}: a name or a metadata value is not UTF-8: {}", path.string(), e.what());
    }
    text.resize((text.size() + 7) / 8 * 8, ' ');
    auto length = static_cast<std::uint64_t>(text.size());
    check(length <= max_header_bytes, "{}: the header takes {} bytes, the format allows {}", path.string(),
          length, max_header_bytes);

    FileWriter out(path);
    ByteHash hash;
    auto put = [&](std::span<std::byte const> bytes) {
        out.write(bytes);
        hash.update(bytes);
    };
    put(std::as_bytes(std::span(&length, 1)));
    put(std::as_bytes(std::span(text)));
    std::map<std::string, std::string> tensors;
    for (auto const* a : order) {
        put(a->bytes);
        ByteHash own;
        own.update(a->bytes);
        if (auto digest = own.digest()) tensors[a->name] = *digest;
    }
    out.finish();
    return {out.bytes(), hash.digest(), std::move(tensors)};
}

SafetensorsFile::SafetensorsFile(std::filesystem::path path) : path_(std::move(path)) {
    map();
    try {
        read_header();
    } catch (...) {
        ::munmap(const_cast<std::byte*>(file_.data()), file_.size());
        throw;
    }
}

SafetensorsFile::~SafetensorsFile() {
    if (!file_.empty()) ::munmap(const_cast<std::byte*>(file_.data()), file_.size());
}

SafetensorsFile::SafetensorsFile(SafetensorsFile&& other) noexcept
    : path_(std::move(other.path_)),
      file_(std::exchange(other.file_, {})),
      entries_(std::move(other.entries_)),
      index_(std::move(other.index_)),
      metadata_(std::move(other.metadata_)) {}

SafetensorsFile& SafetensorsFile::operator=(SafetensorsFile&& other) noexcept {
    std::swap(path_, other.path_);
    std::swap(file_, other.file_);
    std::swap(entries_, other.entries_);
    std::swap(index_, other.index_);
    std::swap(metadata_, other.metadata_);
    return *this;
}

void SafetensorsFile::map() {
    int descriptor = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) fail_with_errno("read", path_);
    struct stat about {};
    void* memory = MAP_FAILED;
    bool known = ::fstat(descriptor, &about) == 0, regular = known && S_ISREG(about.st_mode);
    auto size = regular ? static_cast<std::size_t>(about.st_size) : 0;
    if (size >= 8) memory = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, descriptor, 0);
    int reason = errno;
    ::close(descriptor);
    check(!known || regular, "cannot read {}: it is not a file", path_.string());
    check(!known || size >= 8, "{} is truncated: a safetensors file has at least 8 bytes, this one has {}",
          path_.string(), size);
    errno = reason;
    if (memory == MAP_FAILED) fail_with_errno("map", path_);
    file_ = {static_cast<std::byte const*>(memory), size};
}

void SafetensorsFile::read_header() {
    auto const file = path_.string();
    std::uint64_t length = 0;
    std::memcpy(&length, file_.data(), 8);
    check(length <= max_header_bytes, "{} is not a safetensors file: its header would take {} bytes", file,
          length);
    check(length <= file_.size() - 8, "{} is truncated: expected a header of {} bytes, has {}", file, length,
          file_.size() - 8);
    auto header = parse_header(file, {reinterpret_cast<char const*>(file_.data()) + 8, length});
    auto data = file_.subspan(8 + length);

    struct Range {
        std::int64_t begin, end;
        Entry entry;
    };
    std::vector<Range> ranges;
    std::map<std::string, std::string> places;
    for (auto const& [name, value] : header.items()) {
        if (name == "__metadata__") {
            check(value.is_object(), "{}: '__metadata__' is not an object", file);
            for (auto const& [key, text] : value.items()) {
                check(text.is_string(), "{}: the metadata {} is not a string", file, shown(key));
                if (key.starts_with(block_prefix))
                    places[key.substr(block_prefix.size())] = text.get<std::string>();
                else metadata_[key] = text.get<std::string>();
            }
            continue;
        }
        auto where = fmt::format("{}: tensor {}", file, shown(name));
        auto meta = read_meta(where, value);
        check(value.contains("data_offsets"), "{} has no 'data_offsets'", where);
        auto offsets = sizes_of(where, value["data_offsets"], "data_offsets");
        check(offsets.size() == 2 && offsets[0] <= offsets[1], "{} has 'data_offsets' that are not a range",
              where);
        check(offsets[1] - offsets[0] == meta.bytes(), "{} is {}, {} bytes, but its range holds {}", where,
              to_string(meta), meta.bytes(), offsets[1] - offsets[0]);
        ranges.push_back({offsets[0], offsets[1], {name, meta, {}, {}}});
    }
    std::sort(ranges.begin(), ranges.end(), [](Range const& a, Range const& b) {
        return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
    });

    auto const has = static_cast<std::int64_t>(data.size());
    std::int64_t end = 0;
    for (auto& r : ranges) {
        auto name = shown(r.entry.name);
        check(r.begin >= end, "{}: tensor {} overlaps the one before it", file, name);
        check(r.begin == end, "{}: {} bytes before tensor {} belong to no tensor", file, r.begin - end, name);
        check(r.end <= has, "{}: tensor {} is truncated: expected {} bytes, has {}", file, name,
              r.end - r.begin, std::max<std::int64_t>(has - r.begin, 0));
        r.entry.bytes =
            data.subspan(static_cast<std::size_t>(r.begin), static_cast<std::size_t>(r.end - r.begin));
        end = r.end;
        index_[r.entry.name] = entries_.size();
        entries_.push_back(std::move(r.entry));
    }
    check(end == has, "{}: {} bytes after the last tensor belong to no tensor", file, has - end);
    for (auto const& [name, text] : places) {
        auto it = index_.find(name);
        check(it != index_.end(), "{}: the metadata places tensor {}, which is not there", file, shown(name));
        auto& entry = entries_[it->second];
        auto where = fmt::format("{}: tensor {}", file, shown(name));
        entry.place = detail::parse_placement(where, text);
        detail::check_block(where, entry.meta, entry.place);
    }
}

SafetensorsFile::Entry const* SafetensorsFile::find(std::string_view name) const {
    auto it = index_.find(name);
    return it == index_.end() ? nullptr : &entries_[it->second];
}

SafetensorsFile::Entry const& SafetensorsFile::at(std::string_view name) const {
    auto const* entry = find(name);
    check(entry, "{} has no tensor {}", path_.string(), shown(name));
    return *entry;
}

void SafetensorsFile::copy_to(std::span<NamedArray const> arrays) const {
    detail::copy_blocks(path_.string(), {this, 1}, arrays);
}

}  // namespace plait

#endif
