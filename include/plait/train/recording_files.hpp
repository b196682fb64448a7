#pragma once

#include "plait/train/recording.hpp"

#include <filesystem>
#include <fstream>

// Recordings in folders. Present where Plait was built with nlohmann-json; not part of plait::header_only.
namespace plait {

/// A folder with recording.jsonl: a line of JSON about the run, then one for each value of each step (step,
/// name, kind, dtype, shape, hash, squares, largest, where the ranks' blocks lay); and, where values are
/// kept, step-00000001.safetensors with the values themselves. Errors name the path.
class RecordingWriter {
  public:
    /// Makes the folder. Throws UsageError where it holds a recording already.
    RecordingWriter(std::filesystem::path folder, Recording const& about);

    /// Writes a step's values, and their arrays where they have any.
    void write(std::vector<RecordedValue> const& values);

  private:
    void line(std::string const& text);

    std::filesystem::path folder_;
    std::ofstream out_;
};

/// Reads a recording with what arrays it has. Throws UsageError where the folder holds none, or a file of it
/// cannot be read, naming file and line.
Recording read_recording(std::filesystem::path const& folder);

}  // namespace plait
