// What `plait report` reads and draws with, as sources.cpp has the rest of the command.
#if defined(PLAIT_HAS_TOML) && defined(PLAIT_HAS_JSON)
#include "../../src/tools/run_data.cpp"
#include "../../src/tools/svg.cpp"
#endif
