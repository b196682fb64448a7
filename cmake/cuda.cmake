# CUDA for the kernels. `native` asks for a GPU, which the machine that builds need not have.
if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_ARCHITECTURES "90a;100a;103a" CACHE STRING "Hopper, GB200 and GB300")
endif()
find_program(PLAIT_NVCC nvcc HINTS ENV CUDA_HOME ENV CUDA_PATH PATHS /usr/local/cuda PATH_SUFFIXES bin)
mark_as_advanced(PLAIT_NVCC)
if(NOT PLAIT_NVCC)
  message(FATAL_ERROR "PLAIT_CUDA=ON, but nvcc was not found. Install the CUDA Toolkit, 12.9 or newer, set CUDA_HOME to it, "
    "or set PLAIT_CUDA=OFF.")
endif()
if(NOT CMAKE_CUDA_COMPILER)
  set(CMAKE_CUDA_COMPILER ${PLAIT_NVCC})
endif()
enable_language(CUDA)
if(CMAKE_CUDA_COMPILER_VERSION VERSION_LESS 12.9)
  message(FATAL_ERROR "PLAIT_CUDA=ON, but ${CMAKE_CUDA_COMPILER} is of version ${CMAKE_CUDA_COMPILER_VERSION}, which "
    "does not know sm_103a. Install 12.9 or newer.")
endif()
# CMake 3.25.1 does not know that nvcc has C++20.
if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
  set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
endif()
# One runtime for kernels and for those who launch them, also where libraries bring it along.
set(CMAKE_CUDA_RUNTIME_LIBRARY Shared)
find_package(CUDAToolkit 12.9 REQUIRED)
include(cmake/cudnn.cmake)
