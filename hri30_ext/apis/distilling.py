"""The teacher of a training."""

from pathlib import Path

from mmengine.config import Config

from ..config import load_config
from ..deploy.torch_backend import build_recognizer
from ..engine.distillation import DistillHook
from ..errors import HRI30Error, first_cases
from ..utils.fileio import sha256_of


def load_teacher(cfg: Config) -> list[DistillHook]:
    """Loads the teacher that a student's config names: the hook of a training, or none.

    Raises:
        HRI30Error: no such config or checkpoint, or they do not fit each other or the
            student's classes and frames.
    """
    settings = cfg.get('distill') or {}
    name, weights = settings.get('teacher'), settings.get('checkpoint')
    if not name and not weights:
        return []
    file = Path(weights or '').expanduser()
    if not name or not file.is_file():
        raise HRI30Error(f'distill: teacher={name!r}, checkpoint={weights!r}: expected a '
                         'config and an existing file of its weights.\nSet both, or '
                         'distill=None.')
    teacher = load_config(name)
    own, known = list(cfg.classes), list(teacher.get('classes') or [])
    if set(own) != set(known):
        raise HRI30Error(
            f'distill.teacher={name}: knows other classes than the student. Only one of '
            'both knows\n' + first_cases(sorted(set(own) ^ set(known)), limit=10)
            + '\nExpected the same names, in any order: train a teacher on the classes of '
            'the student, or set classes.')
    if teacher.num_frames > cfg.num_frames:
        raise HRI30Error(
            f'distill.teacher={name}: sees {teacher.num_frames} frames of a clip, and the '
            f'student loads {cfg.num_frames}.\nSet num_frames={teacher.num_frames}, or '
            f'choose a teacher of at most {cfg.num_frames} frames.')
    return [DistillHook(
        build_recognizer(teacher, file), [known.index(one) for one in own],
        teacher.num_frames, teacher.input_size, settings.weight, settings.temperature,
        sha256_of(file))]
