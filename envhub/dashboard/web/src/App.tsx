import type { ReactElement } from 'react'

import { EnvironmentPage } from './pages/environments/EnvironmentPage'
import { EnvironmentsPage } from './pages/environments/EnvironmentsPage'
import { TaskPage } from './pages/environments/TaskPage'
import { GroupPage } from './pages/groups/GroupPage'
import { GroupsPage } from './pages/groups/GroupsPage'
import { OverviewPage } from './pages/overview/OverviewPage'
import { RolloutPage } from './pages/rollout/RolloutPage'
import { ComparePage } from './pages/rollouts/ComparePage'
import { RolloutsPage } from './pages/rollouts/RolloutsPage'
import { RunPage } from './pages/runs/RunPage'
import { RunsPage } from './pages/runs/RunsPage'
import { match, usePlace } from './shell/router'
import { Shell } from './shell/Shell'
import { Boundary } from './ui/Boundary'
import { Notice } from './ui/Notice'

const PAGES: [string, (...ids: string[]) => ReactElement][] = [
  ['/', () => <OverviewPage />],
  ['/overview', () => <OverviewPage />],
  ['/rollouts', () => <RolloutsPage />],
  ['/compare', () => <ComparePage />],
  ['/rollouts/*', (id) => <RolloutPage key={id} id={id!} tab="" />],
  ['/rollouts/*/*', (id, tab) => <RolloutPage key={id} id={id!} tab={tab!} />],
  ['/groups', () => <GroupsPage />],
  ['/groups/*', (id) => <GroupPage key={id} id={id!} />],
  ['/environments', () => <EnvironmentsPage />],
  ['/environments/*', (id) => <EnvironmentPage key={id} id={id!} />],
  [
    '/tasks/*/*',
    (environment, task) => <TaskPage key={`${environment} ${task}`} environment={environment!} task={task!} />,
  ],
  ['/runs', () => <RunsPage />],
  ['/runs/*', (id) => <RunPage key={id} id={id!} />],
]

function pageAt(path: string): ReactElement | undefined {
  for (const [pattern, page] of PAGES) {
    const ids = match(pattern, path)
    if (ids) return page(...ids)
  }
  return undefined
}

export function App() {
  const { path } = usePlace()
  return (
    <Shell>
      <Boundary key={path}>
        {pageAt(path) ?? (
          <Notice title="There is no such page">
            <p>{path}</p>
          </Notice>
        )}
      </Boundary>
    </Shell>
  )
}
