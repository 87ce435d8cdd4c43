package main

// targets are those of the figures that have one.
func targets() map[string]target {
	return map[string]target{
		figNoop1:        {least: 5000},
		figRatio:        {least: 0.4},
		figTables:       {most: 4096},
		figWAL:          {most: 8192},
		figStart50:      {most: 4},
		figStart99:      {most: 12},
		figStep50:       {most: 3},
		figFanout100:    {most: 50},
		figFanout1000:   {most: 500},
		figLogs1:        {least: 20},
		figSSE99:        {most: 15},
		figWorkerMemory: {most: 60},
		figServeMemory:  {most: 80},
		figDropDay:      {most: 1},
		figClaimRatio:   {most: 1.25},
	}
}
