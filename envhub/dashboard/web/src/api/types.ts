/** The API's records by the names that the page uses. All come from schema.d.ts. */

import type { Answer, Body, Parameters } from './client'

export type Session = Answer<'/api/session'>
export type Run = Answer<'/api/runs'>[number]
export type RunDetail = Answer<'/api/runs/{run_id}'>
export type Finding = Answer<'/api/runs/{run_id}/findings'>['findings'][number]
export type Scope = NonNullable<Body<'/api/runs/{run_id}/abort'>['scope']>
export type Overview = Answer<'/api/overview'>
export type Live = NonNullable<Overview['live']>
export type SlowRollout = Overview['slow'][number]
export type VersionPoint = Overview['versions'][number]

export type RolloutFilters = Parameters<'/api/rollouts'>
export type RolloutPage = Answer<'/api/rollouts'>
export type RolloutSummary = RolloutPage['rollouts'][number]
export type Status = NonNullable<RolloutSummary['status']>
export type Facets = Answer<'/api/rollouts/facets'>
export type Histogram = Facets['reward']

export type Rollout = Answer<'/api/rollouts/{rollout_id}'>
export type TranscriptEntry = Rollout['transcript'][number]
export type Message = TranscriptEntry['message']
export type ToolCall = Message['tool_calls'][number]
export type Image = Message['images'][number]
export type RolloutRequest = NonNullable<Rollout['request']>
export type Score = NonNullable<Rollout['score']>
export type TreeNode = Rollout['tree'][number]
export type Timeline = Answer<'/api/rollouts/{rollout_id}/timeline'>
export type Lane = Timeline['lanes'][number]
export type Segment = Lane['segments'][number]

export type Row = Answer<'/api/rollouts/{rollout_id}/rows'>[number]
export type RowTokens = Answer<'/api/rollouts/{rollout_id}/rows/{row}/tokens'>
export type Span = RowTokens['spans'][number]
export type Marks = Answer<'/api/rollouts/{rollout_id}/rows/{row}/marks'>
export type Branches = Answer<'/api/rollouts/{rollout_id}/branches'>
export type BranchNode = Branches['nodes'][number]
export type Call = Answer<'/api/rollouts/{rollout_id}/calls'>[number]
export type CallDetail = Answer<'/api/rollouts/{rollout_id}/calls/{turn}'>
export type RawExchange = NonNullable<CallDetail['raw']>
export type DiffPart = CallDetail['diff'][number]

export type GroupDetail = Answer<'/api/groups/{group_id}'>
export type Member = GroupDetail['members'][number]

export type EnvironmentSummary = Answer<'/api/environments/summary'>[number]
export type EnvironmentReport = Answer<'/api/environments/report'>
export type TaskReport = Answer<'/api/tasks/report'>
