// What a schedule is drawn with, as sources.cpp has the rest of the command.
#if defined(PLAIT_HAS_TOML) && defined(PLAIT_HAS_JSON)
#include "../../src/tools/schedule_picture.cpp"
#endif
