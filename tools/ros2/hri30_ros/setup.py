from setuptools import setup

setup(
    name='hri30_ros', version='0.9.0', packages=['hri30_ros'], license='Apache-2.0',
    maintainer='The maintainers', maintainer_email='maintainers@users.noreply.example',
    data_files=[('share/ament_index/resource_index/packages', ['resource/hri30_ros']),
                ('share/hri30_ros', ['package.xml']),
                ('share/hri30_ros/launch', ['launch/recognizer.launch.py'])],
    entry_points={'console_scripts': ['recognizer = hri30_ros:main']})
