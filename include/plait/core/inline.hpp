#pragma once

// Bodies live in x-inl.hpp: compiled once by src/x.cpp, or inlined where PLAIT_HEADER_ONLY is defined.
#ifdef PLAIT_HEADER_ONLY
#define PLAIT_INLINE inline
#else
#define PLAIT_INLINE
#endif
