# What all models share: data and pipelines, schedule, runtime.
_base_ = ['datasets/hri30.py', 'schedules/schedule_100e.py', 'default_runtime.py']
