package ImsShim;

# Makes a library of t/lib/NAME.c, to be preloaded: what LD_PRELOAD has to be.
#
#   local $ENV{LD_PRELOAD} = ims_shim($dir, 'kill_at');
#
# A program with sanitizers wants theirs to come first.

use strict;
use warnings;

use Cwd qw/ abs_path /;
use Exporter qw/ import /;
use File::Basename qw/ dirname /;

our @EXPORT = qw/ ims_shim /;

my $lib = abs_path(dirname(__FILE__));


sub ims_shim {
	my ($dir, $name) = @_;

	my $so = "$dir/$name.so";

	system('cc', '-shared', '-fPIC', '-O1', '-D_GNU_SOURCE', '-o', $so,
		"$lib/$name.c", '-ldl') == 0
		or die "$name.c cannot be compiled\n";

	return $so unless ($ENV{IMS_BUILD} // '') =~ /asan/;

	my $asan = `cc -print-file-name=libasan.so`;
	chomp $asan;

	return abs_path($asan) . ":$so";
}


1;
