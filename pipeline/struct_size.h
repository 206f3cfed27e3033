/* SPDX-License-Identifier: Apache-2.0
 *
 * struct_size.h - the sizes of the public structs in the first release: the minimum of a caller's
 * struct_size. A struct grows at its end; these sizes never change.
 */
#ifndef PAWL_PIPELINE_STRUCT_SIZE_H
#define PAWL_PIPELINE_STRUCT_SIZE_H

#include "pawl.h"
#include "pawl_time.h"

#define STRUCT_END(type, last) (offsetof(type, last) + sizeof(((type *)0)->last))
#define OPTIONS_FIRST STRUCT_END(pawl_options, on_point_arg)
#define PROCESSOR_FIRST STRUCT_END(pawl_processor_config, batch_bytes)
#define STATUS_FIRST STRUCT_END(pawl_status, recycled)
#define CHECK_FIRST STRUCT_END(pawl_check, live)
#define OUTSIDE_FIRST STRUCT_END(pawl_outside, mark_count)
#define OUTSIDE_PLACE_FIRST STRUCT_END(pawl_outside_place, note)
#define TABLE_CONFIG_FIRST STRUCT_END(pawl_table_config, ttl_ms)
#define TABLE_INFO_FIRST STRUCT_END(pawl_table_info, owner_name)
#define TIME_CONFIG_FIRST STRUCT_END(pawl_time_config, flags)
#define TIME_INFO_FIRST STRUCT_END(pawl_time_info, table)
#define RANGE_FIRST STRUCT_END(pawl_state_range, reverse)
#define REPLAY_FIRST STRUCT_END(pawl_replay_info, what)
#define SAVEPOINT_FIRST STRUCT_END(pawl_savepoint_info, verified_ns)

#endif
