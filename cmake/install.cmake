include(CMakePackageConfigHelpers)
set(plait_package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/plait)

install(DIRECTORY include/plait TYPE INCLUDE FILES_MATCHING PATTERN *.hpp)
install(FILES ${PROJECT_BINARY_DIR}/generated/plait/version.hpp DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/plait)

# Two export sets, so that plait::plait can be used where Eigen is not installed.
install(TARGETS plait EXPORT plaitTargets)
install(TARGETS plait_header_only EXPORT plaitHeaderOnlyTargets)
install(EXPORT plaitTargets NAMESPACE plait:: DESTINATION ${plait_package_dir})
install(EXPORT plaitHeaderOnlyTargets NAMESPACE plait:: DESTINATION ${plait_package_dir})
if(TARGET plait_command)
  install(TARGETS plait_command RUNTIME)
endif()

# The private libraries of a static libplait are linked by its consumer, who has to find them.
if(NOT BUILD_SHARED_LIBS)
  set(PLAIT_CONFIG_PACKAGES ${plait_optional_packages})
endif()
configure_package_config_file(cmake/plaitConfig.cmake.in plaitConfig.cmake INSTALL_DESTINATION ${plait_package_dir})
write_basic_package_version_file(plaitConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/plaitConfig.cmake ${PROJECT_BINARY_DIR}/plaitConfigVersion.cmake
  DESTINATION ${plait_package_dir})
foreach(package IN LISTS PLAIT_CONFIG_PACKAGES)
  install(FILES cmake/Find${package}.cmake DESTINATION ${plait_package_dir})
endforeach()

set(PLAIT_PC_LIBS "-lplait")
if(NOT BUILD_SHARED_LIBS)
  string(APPEND PLAIT_PC_LIBS " -pthread")
  if(CBLAS IN_LIST plait_optional_packages)
    string(APPEND PLAIT_PC_LIBS " -lopenblas")
  endif()
  if(OneDNN IN_LIST plait_optional_packages)
    # The OpenMP runtime lies in the compiler's own folder, so by name.
    string(APPEND PLAIT_PC_LIBS " -ldnnl")
    foreach(library IN LISTS OpenMP_CXX_LIB_NAMES)
      string(APPEND PLAIT_PC_LIBS " -l${library}")
    endforeach()
  endif()
  if(OpenMPI IN_LIST plait_optional_packages)
    # MPI's libraries often lie in a folder of their own, so by path.
    list(JOIN MPI_CXX_LIBRARIES " " libraries)
    string(APPEND PLAIT_PC_LIBS " ${libraries}")
  endif()
endif()
file(RELATIVE_PATH PLAIT_PC_PREFIX /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
configure_file(cmake/plait.pc.in plait.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/plait.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
