# An outside project links Plait in each of the ways that there are.
set(package_dir ${CMAKE_CURRENT_BINARY_DIR}/package)

function(plait_package_test name)
  add_test(NAME package.${name} COMMAND bash ${CMAKE_CURRENT_SOURCE_DIR}/package/check.sh ${name} ${package_dir}
    ${PROJECT_SOURCE_DIR} ${PROJECT_BINARY_DIR} -DCMAKE_CXX_COMPILER=${CMAKE_CXX_COMPILER}
    "-DCMAKE_CXX_FLAGS=${CMAKE_CXX_FLAGS}" -DCMAKE_CXX_COMPILER_LAUNCHER=${CMAKE_CXX_COMPILER_LAUNCHER}
    "-DCMAKE_PREFIX_PATH=${CMAKE_PREFIX_PATH}" -G ${CMAKE_GENERATOR})
  set_tests_properties(package.${name} PROPERTIES LABELS package TIMEOUT 1200 SKIP_RETURN_CODE 4 ${ARGN})
endfunction()

plait_package_test(install FIXTURES_SETUP plait_prefix)
foreach(name find moved header_only pkg_config)
  plait_package_test(${name} FIXTURES_REQUIRED plait_prefix)
endforeach()
plait_package_test(fetch)
plait_package_test(subdirectory)
