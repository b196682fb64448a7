// The command's own sources are no part of the library, so its tests compile them here.
#if defined(PLAIT_HAS_TOML) && defined(PLAIT_HAS_CLI11)
#include "../../src/tools/cluster_file.cpp"
#include "../../src/tools/command_line.cpp"
#include "../../src/tools/config.cpp"
#include "../../src/tools/config_check.cpp"
#include "../../src/tools/config_text.cpp"
#include "../../src/tools/launch.cpp"
#include "../../src/tools/plan_lines.cpp"
#include "../../src/tools/prepare.cpp"
#include "../../src/tools/prepare_files.cpp"
#include "../../src/tools/prepare_shards.cpp"
#include "../../src/tools/rank_places.cpp"
#include "../../src/tools/sampling.cpp"
#include "../../src/tools/text_stream.cpp"
#endif
