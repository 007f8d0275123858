# SPDX-License-Identifier: Apache-2.0
# Install and export. Each target has its own export file, so that a machine without JSON or CUDA
# can still use the rest. Nothing installed holds an absolute path: the tree may be moved.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(package_dir ${CMAKE_INSTALL_DATADIR}/cmake/deepseek)

install(TARGETS deepseek EXPORT deepseek-targets FILE_SET HEADERS
        DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(EXPORT deepseek-targets NAMESPACE deepseek:: DESTINATION ${package_dir})
foreach(part io cuda)
  if(TARGET deepseek_${part})
    install(TARGETS deepseek_${part} EXPORT deepseek-${part}-targets)
    install(EXPORT deepseek-${part}-targets NAMESPACE deepseek:: DESTINATION ${package_dir})
  endif()
endforeach()

install(FILES ${CMAKE_CURRENT_LIST_DIR}/text_libraries.cmake DESTINATION ${package_dir})
configure_package_config_file(
  ${CMAKE_CURRENT_LIST_DIR}/deepseek-config.cmake.in ${PROJECT_BINARY_DIR}/deepseek-config.cmake
  INSTALL_DESTINATION ${package_dir} NO_SET_AND_CHECK_MACRO)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/deepseek-config-version.cmake
                                 COMPATIBILITY SameMinorVersion ARCH_INDEPENDENT)
install(FILES ${PROJECT_BINARY_DIR}/deepseek-config.cmake
              ${PROJECT_BINARY_DIR}/deepseek-config-version.cmake DESTINATION ${package_dir})
install(FILES ${PROJECT_SOURCE_DIR}/LICENSE DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/deepseek)
